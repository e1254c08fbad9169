//! The golden table of the query language, and what is no query.
