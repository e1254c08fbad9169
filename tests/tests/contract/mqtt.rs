//! The topics of the contract (A1, A3 to A7, B3 to B16).
