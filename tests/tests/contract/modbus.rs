//! The Modbus server and the register calls (4.1, 1.11, 2.6).
