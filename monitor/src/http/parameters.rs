//! The query of a request: each parameter known, there once, and what it should be.

use std::{borrow::Cow, collections::HashMap};

use super::error::ApiError;

/// Parameters that are still to be understood.
pub(super) struct Parameters<'q>(HashMap<Cow<'q, str>, Cow<'q, str>>);

impl<'q> Parameters<'q> {
    /// Splits a query, percent-decoded.
    ///
    /// # Errors
    ///
    /// When it has a parameter that is not known here, or one twice.
    pub(super) fn read(query: Option<&'q str>, known: &[&str]) -> Result<Self, ApiError> {
        let mut parameters = HashMap::new();
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            if !known.contains(&&*name) {
                let known = match known {
                    [] => "there is none here".to_owned(),
                    known => format!("there are {}", known.join(", ")),
                };
                let message = format!("no parameter is called {}: {known}", quoted(&name));
                return Err(ApiError::bad_parameter(message));
            }
            if parameters.contains_key(&name) {
                return Err(ApiError::bad_parameter(format!("{name} is given twice")));
            }
            parameters.insert(name, value);
        }
        Ok(Self(parameters))
    }

    /// Understands one parameter; none when it is not given.
    ///
    /// # Errors
    ///
    /// When its value is not what `expected` says.
    pub(super) fn take<T>(
        &mut self,
        name: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        let Some(value) = self.0.remove(name) else {
            return Ok(None);
        };
        match parse(&value) {
            Some(parsed) => Ok(Some(parsed)),
            None => Err(ApiError::bad_parameter(format!(
                "{name} must be {expected}, not {}",
                quoted(&value)
            ))),
        }
    }
}

/// What the request said, short enough to be repeated.
fn quoted(text: &str) -> String {
    let short: String = text.chars().take(64).collect();
    format!("{short:?}")
}
