//! Rust names for the WIT packages. Generated; the only place that knows where `wit/` lies.
//!
//! The world below exists for the generator alone: no component has to export all of it. The host looks which
//! interfaces a component exports and resolves those, one by one ([`super::linked`]).

#![allow(missing_docs, reason = "generated from the WIT files, which carry the documentation")]

wasmtime::component::bindgen!({
    path: ["../wit/host", "../wit/modbus", "../wit/http", "../wit/mqtt", "../wit/device"],
    inline: r"
        package ladekern:linked@0.1.0;
        world all {
            include ladekern:device/driver@0.1.0;
            export ladekern:device/charge-control@0.1.0;
            export ladekern:device/phase-control@0.1.0;
            export ladekern:device/failsafe@0.1.0;
            export ladekern:device/push@0.1.0;
            export ladekern:device/handover@0.1.0;
            export ladekern:device/decoder@0.1.0;
            export ladekern:device/payload-decoder@0.1.0;
        }
    ",
    world: "ladekern:linked/all",
    imports: {
        "ladekern:host/log": trappable,
        "ladekern:host/clock.now-ms": trappable,
        "ladekern:host/clock.unix-ms": trappable,
        default: async | trappable,
    },
    exports: { default: async },
    with: {
        "ladekern:modbus/client.endpoint": crate::capability::ModbusSlot,
        "ladekern:http/client.endpoint": crate::capability::HttpSlot,
        "ladekern:mqtt/client.endpoint": crate::capability::MqttSlot,
    },
});
