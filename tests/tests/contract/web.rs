//! Who may do what over HTTP, and what bad input gets (B24).
