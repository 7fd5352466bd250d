//! Values that must never be printed.

use std::fmt;

/// A token: `Debug` and `Display` hide it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    #[must_use]
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The token itself, for the one place that compares or sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// What stands where a secret would.
pub const REDACTED: &str = "[redacted]";

/// The address of a server: printed without user, password and parameters.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerUrl(Box<str>);

impl ServerUrl {
    #[must_use]
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The whole address, for connecting.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What stands before the first colon: `redis`, `unix`, `sqlite` …
    #[must_use]
    pub fn scheme(&self) -> &str {
        self.0.split(':').next().unwrap_or_default()
    }
}

impl fmt::Display for ServerUrl {
    /// Cut generously: whatever precedes the last `@` may be a password, and parameters may hold one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (address, parameters) = match self.0.split_once('?') {
            Some((address, _)) => (address, "?[redacted]"),
            None => (&*self.0, ""),
        };
        match (address.split_once("://"), address.rfind('@')) {
            (Some((scheme, _)), Some(at)) => {
                write!(f, "{scheme}://{REDACTED}{}{parameters}", &address[at..])
            }
            _ => write!(f, "{address}{parameters}"),
        }
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_printed() {
        assert_eq!(format!("{:?} {}", Secret::new("s3cret"), Secret::new("s3cret")), "[redacted] [redacted]");
        for (url, printed) in [
            ("redis://127.0.0.1:6379/1", "redis://127.0.0.1:6379/1"),
            ("redis://:s3cret@host:6379", "redis://[redacted]@host:6379"),
            ("redis://me:s3@cr/et@host", "redis://[redacted]@host"),
            ("unix:///run/redis.sock?pass=s3cret", "unix:///run/redis.sock?[redacted]"),
            ("sqlite:/var/lib/quotad.db", "sqlite:/var/lib/quotad.db"),
        ] {
            assert_eq!(ServerUrl::new(url).to_string(), printed);
            assert_eq!(format!("{:?}", ServerUrl::new(url)), printed);
        }
    }
}
