//! What is remembered between the requests of a run: cookies, and which acknowledgements are waited for.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use reqwest::header::{HeaderMap, SET_COOKIE};
use tokio::sync::{Notify, oneshot};

/// The cookies of one server: how a load balancer knows which indexer has our acknowledgements.
#[derive(Default)]
pub(super) struct Cookies(Mutex<BTreeMap<String, String>>);

impl Cookies {
    /// Takes what an answer sets. All of it comes from the one server that it will be sent to: domains and paths do not
    /// matter.
    pub(super) fn take(&self, headers: &HeaderMap) {
        for value in headers.get_all(SET_COOKIE) {
            let Ok(value) = value.to_str() else { continue };
            let mut parts = value.split(';');
            let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else { continue };
            let ended = parts.any(|part| part.trim().eq_ignore_ascii_case("max-age=0"));
            let (name, value) = (name.trim().to_owned(), value.trim().to_owned());
            let mut cookies = locked(&self.0);
            if ended || value.is_empty() {
                cookies.remove(&name);
            } else {
                cookies.insert(name, value);
            }
        }
    }

    /// The header's value, where there are any.
    pub(super) fn header(&self) -> Option<String> {
        let cookies = locked(&self.0);
        let pairs: Vec<String> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }
}

/// The acknowledgements that are waited for.
#[derive(Default)]
pub(super) struct Waiting {
    state: Mutex<State>,
    news: Notify,
}

#[derive(Default)]
struct State {
    waits: BTreeMap<u64, oneshot::Sender<()>>,
    /// What went wrong when they were last asked for.
    problem: Option<(&'static str, String)>,
}

impl Waiting {
    /// Waits for this one. The answer ends with an error where the number is given out a second time: then two
    /// indexers count, or one began anew, and none of the two can be told from the other.
    pub(super) fn wait(&self, id: u64) -> Option<oneshot::Receiver<()>> {
        let (sender, receiver) = oneshot::channel();
        let mut state = locked(&self.state);
        if state.waits.remove(&id).is_some() {
            return None;
        }
        state.waits.insert(id, sender);
        self.news.notify_one();
        Some(receiver)
    }

    /// Returns when something is waited for that was not when this returned last.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    /// Nobody waits for this one any more.
    pub(super) fn forget(&self, id: u64) {
        locked(&self.state).waits.remove(&id);
    }

    /// Nobody waits for any: those that did are gone with the batch.
    pub(super) fn clear(&self) {
        *locked(&self.state) = State::default();
    }

    pub(super) fn ids(&self) -> Vec<u64> {
        locked(&self.state).waits.keys().copied().collect()
    }

    /// These have come.
    pub(super) fn came(&self, ids: &[u64]) {
        let mut state = locked(&self.state);
        state.problem = None;
        for id in ids {
            if let Some(sender) = state.waits.remove(id) {
                // Who waited may have given up in this moment: then it will be sent again.
                let _ = sender.send(());
            }
        }
    }

    pub(super) fn note(&self, code: &'static str, message: String) {
        locked(&self.state).problem = Some((code, message));
    }

    /// What went wrong when they were last asked for, if something did.
    pub(super) fn problem(&self) -> Option<(&'static str, String)> {
        locked(&self.state).problem.clone()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_kept_until_they_end() {
        let cookies = Cookies::default();
        assert_eq!(cookies.header(), None);
        let take = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(SET_COOKIE, value.parse().unwrap());
            }
            cookies.take(&headers);
        };
        take(&["AWSALB=a=b; Path=/; HttpOnly", "other=1", "nonsense"]);
        assert_eq!(cookies.header().unwrap(), "AWSALB=a=b; other=1");
        take(&["AWSALB=c; Expires=never", "other=; Max-Age=0"]);
        assert_eq!(cookies.header().unwrap(), "AWSALB=c");
        take(&["AWSALB=c; max-age=0"]);
        assert_eq!(cookies.header(), None);
    }

    #[test]
    fn a_number_that_is_given_out_twice_stands_for_nothing() {
        let waiting = Waiting::default();
        let mut first = waiting.wait(3).unwrap();
        let mut other = waiting.wait(4).unwrap();
        assert_eq!(waiting.ids(), [3, 4]);
        assert!(waiting.wait(3).is_none());
        assert!(first.try_recv().is_err());
        waiting.came(&[4, 9]);
        other.try_recv().unwrap();
        assert!(waiting.ids().is_empty());
        waiting.wait(3).unwrap();
        waiting.forget(3);
        assert!(waiting.ids().is_empty());
    }
}
