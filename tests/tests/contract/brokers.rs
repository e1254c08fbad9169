//! Brokers: every scheme, TLS, logins, both versions of the protocol, and brokers that misbehave (contract A2, B1, B2,
//! B6, B13, B17, B18).

mod acknowledged;
mod receiving;
mod reconnecting;
mod schemes;
mod tls;
mod versions;

use ladekern::config::BrokerUrl;
use ladekern::site::Clock;
use ladekern::transport::{BrokerState, BrokerStatus, Inbox, Message, MqttConnection, Overflow, Qos, Transports};
use ladekern_tests::{SOON, until};
use tokio::runtime::Handle;

fn transports() -> Transports {
    Transports::new(Handle::current(), Clock::start(), None, "ladekern-1234".to_owned())
}

fn url(text: &str) -> BrokerUrl {
    text.parse().unwrap()
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.unwrap_or_else(|_| panic!("{what}: not within {SOON:?}"))
}

async fn subscribe(connection: &MqttConnection, filter: &str) -> Inbox {
    let inbox = Inbox::new(Overflow::KeepOrder, 10_000);
    connection.subscribe(filter, Qos::AtLeastOnce, "main", "", inbox.clone()).await.unwrap();
    soon("a SUBACK", connection.acknowledged()).await;
    inbox
}

async fn next(inbox: &Inbox) -> Message {
    soon("a message", inbox.recv()).await
}

/// The version spoken, once connected.
async fn connected(connection: &MqttConnection) -> bool {
    let mut state = connection.state();
    let up = state.wait_for(|state| matches!(state, BrokerState::Connected { .. }));
    let up = soon("a connection", up).await.unwrap().clone();
    up == BrokerState::Connected { v5: true }
}

/// Why there is no connection, once there is none.
async fn down(connection: &MqttConnection) -> String {
    let mut state = connection.state();
    let down = state.wait_for(|state| matches!(state, BrokerState::Down(_)));
    let BrokerState::Down(reason) = soon("a failure", down).await.unwrap().clone() else { unreachable!() };
    reason
}

/// The status of the only connection, once it is as wanted.
async fn status(registry: &Transports, wanted: impl Fn(&BrokerStatus) -> bool) -> BrokerStatus {
    until("the status of the broker", async || registry.brokers().remove(0), wanted).await
}
