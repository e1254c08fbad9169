//! The arguments of a call: what stands behind `/cnf?`, or behind `api/` in a topic. Pure.

/// Why a text is no list of arguments.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadArgs(pub String);

/// The arguments of `cmd=x&a=1&b=x%20y`, in their order, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args(Vec<(String, String)>);

impl Args {
    /// Reads a query. A plus is a space.
    ///
    /// # Errors
    /// A wrong escape, text that is no UTF-8, an argument that is given twice.
    pub fn parse(query: &str) -> Result<Self, BadArgs> {
        let mut args: Vec<(String, String)> = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let name = decode(name).ok_or_else(|| {
                BadArgs(
                    "the name of an argument is escaped wrongly; expected %XX with two hexadecimal digits, UTF-8"
                        .into(),
                )
            })?;
            let value = decode(value).ok_or_else(|| {
                BadArgs(format!(
                    "argument {}: escaped wrongly; expected %XX with two hexadecimal digits, UTF-8",
                    short(&name)
                ))
            })?;
            if args.iter().any(|(other, _)| *other == name) {
                return Err(BadArgs(format!("argument {} is given twice", short(&name))));
            }
            args.push((name, value));
        }
        Ok(Self(args))
    }

    /// The value of an argument.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// All in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// At most 60 characters for a message.
pub(crate) fn short(text: &str) -> String {
    crate::config::tree::shorten(text)
}

fn decode(text: &str) -> Option<String> {
    crate::config::percent_decode(&text.replace('+', " "))
}
