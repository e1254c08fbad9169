//! The store of transactions: order, numbers, crashes.
