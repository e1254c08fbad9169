//! The table of all commands: who may call them, what they read, and what runs them. The one place where a command
//! is made known; the dispatcher, the message about an unknown command and the documentation follow it.

use std::pin::Pin;

use super::{Answer, Api, Call, Refusal};
use super::{admin, devices, feed, modbus, params, read, sessions, users, variables};

/// Who may call a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody, without credentials.
    Public,
    /// The admin.
    Admin,
    /// By a rule of its own.
    Own(&'static str),
}

/// What stands in the body of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing; what stands there is not read. GET or POST.
    None,
    /// JSON, or the same as arguments. POST with a body, GET without.
    Optional,
    /// JSON. POST.
    Required,
}

impl Body {
    /// The methods of HTTP the command is called with.
    #[must_use]
    pub fn methods(self) -> &'static str {
        match self {
            Body::None | Body::Optional => "GET, POST",
            Body::Required => "POST",
        }
    }
}

/// One command of `/cnf?cmd=…` and of the topics below `api/`.
#[derive(Clone, Copy)]
pub struct Command {
    /// The value of `cmd`.
    pub name: &'static str,
    /// Who may call it.
    pub access: Access,
    /// What its body is.
    pub body: Body,
    /// Its arguments as they are written, optional ones in brackets. Others are ignored: clients send more.
    pub args: &'static str,
    /// What it does, one line.
    pub about: &'static str,
    pub(super) run: Run,
}

/// The answer that is being made.
pub(super) type Running<'a> = Pin<Box<dyn Future<Output = Result<Answer, Refusal>> + Send + 'a>>;
/// What runs a command.
pub(super) type Run = for<'a> fn(&'a Api, &'a Call) -> Running<'a>;

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Command({})", self.name)
    }
}

/// One row of the table.
macro_rules! command {
    ($name:literal, $access:expr, $body:expr, $args:literal, $about:literal, |$api:pat_param, $call:pat_param| $run:expr) => {
        Command {
            name: $name,
            access: $access,
            body: $body,
            args: $args,
            about: $about,
            run: |$api, $call| Box::pin(async move { $run }),
        }
    };
}

const OVERRIDE: Access = Access::Own("C, c, U, u and mamps: admin, or rfid= of a user of the wallbox; E, e: admin");
const SET_USER: Access = Access::Own("admin, or the id of a user in the body: that user's own name and cards");

/// All commands, by group.
pub static COMMANDS: &[Command] = &[
    command!("get_dev_info", Access::Public, Body::None, "", "all devices and the parameters", |api, _| Ok(
        read::dev_info(api)
    )),
    command!("get_params", Access::Public, Body::None, "", "the parameters", |api, _| Ok(params::get(api))),
    command!("get_dev_types", Access::Public, Body::None, "", "the label of each type", |api, _| Ok(read::dev_types(
        api
    ))),
    command!("set_params", Access::Admin, Body::Required, "", "changes parameters", |api, call| {
        params::set(api, call).await
    }),
    command!("get_devices", Access::Admin, Body::None, "", "all devices with their configuration", |api, _| Ok(
        devices::all(api)
    )),
    command!("set_device", Access::Admin, Body::Required, "", "changes a device or makes one", |api, call| {
        devices::set(api, call).await
    }),
    command!("del_device", Access::Admin, Body::None, "dev_id=E1", "removes a device", |api, call| {
        devices::delete(api, call).await
    }),
    command!("reset_device", Access::Admin, Body::None, "dev_id=E1", "starts a device's driver again", |api, call| {
        devices::reset(api, call)
    }),
    command!("set_ajax_meter", Access::Admin, Body::Optional, "dev_id=M1", "feeds a meter", |api, call| {
        feed::meter(api, call)
    }),
    command!(
        "set_ajax_evse",
        Access::Admin,
        Body::Optional,
        "dev_id=E1",
        "feeds a wallbox and answers its orders",
        |api, call| feed::evse(api, call)
    ),
    command!(
        "enter_rfid",
        Access::Public,
        Body::None,
        "rfid=5678[&dev_id=E1]",
        "a card or PIN is shown",
        |api, call| sessions::enter_rfid(api, call).await
    ),
    command!(
        "override_device",
        OVERRIDE,
        Body::None,
        "dev_id=E1[&flags=C][&mamps=16000][&rfid=5678]",
        "forbids charging, switches rules off, limits the current, until the car is unplugged",
        |api, call| sessions::override_device(api, call).await
    ),
    command!(
        "soft_meter",
        Access::Admin,
        Body::None,
        "dev_id=E1[&val=5]",
        "reads and sets the estimated counter of a wallbox, in Wh",
        |api, call| sessions::soft_meter(api, call).await
    ),
    command!(
        "set_cm_vars",
        Access::Admin,
        Body::Optional,
        "[name=x&val=1][&clear=1][&tmp=1]",
        "sets variables",
        |api, call| variables::set(api, call).await
    ),
    command!("set_cm_var", Access::Admin, Body::None, "name=x&val=1[&tmp=1]", "sets one variable", |api, call| {
        variables::set_one(api, call).await
    }),
    command!("get_cm_vars", Access::Admin, Body::None, "", "all variables", |api, _| Ok(variables::get(api))),
    command!("get_users", Access::Admin, Body::None, "", "all users", |api, _| Ok(users::all(api))),
    command!("get_user", Access::Admin, Body::None, "id=4711", "one user", |api, call| users::one(api, call)),
    command!("get_new_user_id", Access::Admin, Body::None, "", "an id that is free", |api, _| users::new_id(api)),
    command!("set_user", SET_USER, Body::Required, "", "makes, changes or removes a user", |api, call| {
        users::set(api, call).await
    }),
    command!(
        "change_admin_pwd",
        Access::Admin,
        Body::None,
        "[old_pwd=…&]new_pwd=…",
        "changes the admin password",
        |api, call| admin::change_password(api, call).await
    ),
    command!(
        "accept_license",
        Access::Admin,
        Body::None,
        "[acc=1][&allow_usage_stats=0]",
        "there is nothing to accept",
        |_, call| admin::accept_license(call)
    ),
    command!("set_diag_logging", Access::Admin, Body::None, "enable=1", "logs more", |_, call| {
        admin::diagnostic_logging(call)
    }),
    command!(
        "modbus",
        Access::Admin,
        Body::None,
        "device=evse and read=8092[&count=2], read=all, write=8087&value=1 or write=8087&values=[…]",
        "registers of our own map",
        |api, call| modbus::registers(api, call).await
    ),
    command!(
        "modbus_get",
        Access::Admin,
        Body::None,
        "addr=192.168.1.20:502&reg=8092[&id=1][&type=w][&func=3][&cnt=2][&order=…]",
        "reads registers of any device",
        |api, call| modbus::get(api, call).await
    ),
    command!(
        "modbus_set",
        Access::Admin,
        Body::None,
        "addr=192.168.1.20:502&reg=8092&val=1[&id=1][&type=w][&func=6][&cnt=2][&order=…]",
        "writes registers of any device",
        |api, call| modbus::set(api, call).await
    ),
];
