//! The query language (`cfos-interfaces.md` 2.3).

use std::fmt;

/// A compiled query; cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Query(std::sync::Arc<str>);

/// A text that is no query.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct QueryError {
    /// Byte of the text.
    pub offset: usize,
    /// What is wrong there and what would be right.
    pub message: String,
}

impl Query {
    /// Compiles the text.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        if text.is_empty() {
            return Err(QueryError { offset: 0, message: "is empty; expected a member, like power".into() });
        }
        Ok(Self(text.into()))
    }

    /// The text it was made of.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Query({})", self.0)
    }
}
