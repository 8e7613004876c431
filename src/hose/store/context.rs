//! What a store is opened with: the machine, the environment, and a way to tell a person something.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::sys::System;

/// Variables of the environment as they were when the program started.
#[derive(Clone, Default)]
pub struct Environment(Arc<BTreeMap<String, String>>);

impl Environment {
    /// Those of this process. What is not text is left out.
    pub fn process() -> Self {
        let text = std::env::vars_os();
        text.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect()
    }

    /// A variable. An empty one counts as not set, as the SDKs have it.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The first of these that is set.
    pub fn first(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.get(name))
    }

    /// Whether a variable says yes.
    pub fn is_on(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "true" | "1" | "yes"))
    }

    /// Those whose names begin like this, with what is set.
    pub fn beginning_with<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let from = self.0.range(prefix.to_owned()..).take_while(move |(name, _)| name.starts_with(prefix));
        from.map(|(name, value)| (name.as_str(), value.as_str())).filter(|(_, value)| !value.is_empty())
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<T: IntoIterator<Item = (N, V)>>(variables: T) -> Self {
        Self(Arc::new(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect()))
    }
}

/// Names only: values may be secrets.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Says a line to a person: a warning, a thing that is done otherwise than they may think.
pub type Tell = Arc<dyn Fn(&str) + Send + Sync>;

/// What a store is opened with. Clones are the same.
#[derive(Clone)]
pub struct Context {
    /// The machine.
    pub system: System,
    /// Where settings come from.
    pub environment: Environment,
    tell: Tell,
    told: Arc<Mutex<BTreeSet<String>>>,
}

impl Context {
    /// A context that says things through `tell`, each of them once.
    pub fn new(system: &System, environment: Environment, tell: Tell) -> Self {
        Self { system: system.clone(), environment, tell, told: Arc::default() }
    }

    /// Says it, unless it was said already.
    pub fn tell_once(&self, line: &str) {
        let is_new = self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(line.to_owned());
        if is_new {
            (self.tell)(line);
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("environment", &self.environment).finish_non_exhaustive()
    }
}

/// Runs what waits for a disk, or for a program, beside the runtime's thread, or here where there is no runtime.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return work() };
    match runtime.spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime ends, and with it whoever waits here.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_shows_names_and_never_values() {
        let environment: Environment =
            [("A_KEY", "secret"), ("A_NO", ""), ("B", "True")].into_iter().collect();
        assert_eq!(format!("{environment:?}"), r#"{"A_KEY", "A_NO", "B"}"#);
        assert_eq!((environment.get("A_KEY"), environment.get("A_NO")), (Some("secret"), None));
        assert_eq!(environment.beginning_with("A_").collect::<Vec<_>>(), [("A_KEY", "secret")]);
        assert!(environment.is_on("B") && !environment.is_on("A_KEY"));
        assert_eq!(environment.first(&["A_NO", "B"]), Some("True"));
    }

    #[test]
    fn a_thing_is_told_once() {
        let said = Arc::new(Mutex::new(Vec::new()));
        let tell: Tell = {
            let said = said.clone();
            Arc::new(move |line: &str| said.lock().unwrap().push(line.to_owned()))
        };
        let context = Context::new(&System::real(), Environment::default(), tell);
        context.tell_once("a");
        context.clone().tell_once("a");
        context.tell_once("b");
        assert_eq!(*said.lock().unwrap(), ["a", "b"]);
    }
}
