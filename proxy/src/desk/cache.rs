//! What the desk remembers of names: fresh answers, stale ones that still serve, and refusals.
//!
//! Source: Kong `kong/resty/dns/client.lua` (`dns_valid_ttl`, `dns_stale_ttl`, `dns_not_found_ttl`,
//! `dns_error_ttl`, `dns_cache_size`).

use std::sync::Arc;

use hashbrown::HashMap;

use crate::names::{Answer, Kind, NameFault, Told};

/// For how long what is kept, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spans {
    /// In place of what records say.
    pub valid_s: Option<u32>,
    /// After records have expired, while no newer ones can be had.
    pub stale_s: u32,
    /// That a name does not exist.
    pub not_found_s: u32,
    /// That name servers failed.
    pub error_s: u32,
    /// Names that are remembered.
    pub names_max: usize,
}

/// What is remembered of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Memory {
    /// This, and it holds.
    Fresh(Told),
    /// This, and somebody should ask again.
    Stale(Arc<Answer>),
    /// Nothing.
    None,
}

/// The memory.
#[derive(Debug)]
pub(super) struct Cache {
    spans: Spans,
    names: HashMap<Box<str>, Known>,
}

#[derive(Debug)]
struct Known {
    told: Told,
    fresh_until_us: u64,
    /// The last answer there was, and until when it may serve.
    last: Option<(Arc<Answer>, u64)>,
}

const SECOND_US: u64 = 1_000_000;

impl Cache {
    pub(super) fn new(spans: Spans) -> Self {
        Self { spans, names: HashMap::new() }
    }

    pub(super) fn get(&self, name: &str, now_us: u64) -> Memory {
        let Some(known) = self.names.get(name) else { return Memory::None };
        // A name that is gone is gone; servers that fail are no reason to forget it.
        let gone = known.told == Err(NameFault::NotFound);
        let last = known.last.as_ref().filter(|(_, until_us)| *until_us > now_us && !gone);
        match (&known.told, last) {
            (Ok(_) | Err(NameFault::NotFound), _) if known.fresh_until_us > now_us => {
                Memory::Fresh(known.told.clone())
            }
            (Err(_), Some((answer, _))) if known.fresh_until_us > now_us => {
                Memory::Fresh(Ok(renewed(answer, 1)))
            }
            (Err(_), None) if known.fresh_until_us > now_us => Memory::Fresh(known.told.clone()),
            (_, Some((answer, _))) => Memory::Stale(Arc::clone(answer)),
            (_, None) => Memory::None,
        }
    }

    /// The kind of the last answer.
    pub(super) fn last_kind(&self, name: &str) -> Option<Kind> {
        self.names.get(name)?.last.as_ref().map(|(answer, _)| answer.kind)
    }

    /// Remembers what the name servers told; gives what is told on: while they fail, the last
    /// answer.
    pub(super) fn put(&mut self, name: &str, told: Told, now_us: u64) -> Told {
        let spans = self.spans;
        let told = told.map(|answer| match spans.valid_s {
            Some(valid_s) => renewed(&answer, valid_s),
            None => answer,
        });
        let span_s = match &told {
            Ok(answer) => answer.ttl_s,
            Err(NameFault::NotFound) => spans.not_found_s,
            Err(_) => spans.error_s,
        };
        let fresh_until_us = now_us + u64::from(span_s) * SECOND_US;
        if self.names.len() >= spans.names_max && !self.names.contains_key(name) {
            self.make_room(now_us);
        }
        let before = self.names.remove(name).and_then(|known| known.last);
        let last = match &told {
            Ok(answer) => {
                let until_us = fresh_until_us + u64::from(spans.stale_s) * SECOND_US;
                Some((Arc::clone(answer), until_us))
            }
            Err(NameFault::NotFound) => None,
            Err(_) => before.filter(|(_, until_us)| *until_us > now_us),
        };
        let told_on = match (&told, &last) {
            (Err(_), Some((answer, _))) => Ok(renewed(answer, spans.error_s.max(1))),
            _ => told.clone(),
        };
        self.names.insert(name.into(), Known { told, fresh_until_us, last });
        told_on
    }

    /// Forgets what has expired; if nothing has, everything.
    fn make_room(&mut self, now_us: u64) {
        let before = self.names.len();
        self.names.retain(|_, known| known.fresh_until_us > now_us);
        if self.names.len() == before {
            self.names.clear();
        }
    }
}

/// The same answer for another time.
pub(super) fn renewed(answer: &Answer, ttl_s: u32) -> Arc<Answer> {
    Arc::new(Answer { ttl_s, ..answer.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Found;

    const SPANS: Spans =
        Spans { valid_s: None, stale_s: 100, not_found_s: 30, error_s: 1, names_max: 3 };

    fn answer(last: u8, ttl_s: u32) -> Arc<Answer> {
        let ip = [10, 0, 0, last].into();
        let found = Found { ip, port: None, weight: None, name: None };
        Arc::new(Answer { addresses: [found].into(), kind: Kind::A, ttl_s })
    }

    fn failed() -> Told {
        Err(NameFault::Failed("timeout".to_owned()))
    }

    /// What is told at one second after what was put at others.
    #[track_caller]
    fn check(spans: Spans, puts: &[(u64, Told)], at_s: u64, expected: &Memory) {
        let mut cache = Cache::new(spans);
        for (at_s, told) in puts {
            drop(cache.put("a", told.clone(), at_s * SECOND_US));
        }
        assert_eq!(cache.get("a", at_s * SECOND_US), *expected, "at {at_s} s after {puts:?}");
    }

    #[test]
    fn answers_hold_for_their_time_and_then_are_stale() {
        let put = [(10, Ok(answer(1, 20)))];
        check(SPANS, &put, 29, &Memory::Fresh(Ok(answer(1, 20))));
        check(SPANS, &put, 30, &Memory::Stale(answer(1, 20)));
        check(SPANS, &put, 129, &Memory::Stale(answer(1, 20)));
        check(SPANS, &put, 130, &Memory::None);
        check(SPANS, &[], 10, &Memory::None);
    }

    #[test]
    fn a_setting_overrides_the_records() {
        let spans = Spans { valid_s: Some(5), ..SPANS };
        check(spans, &[(10, Ok(answer(1, 20)))], 14, &Memory::Fresh(Ok(answer(1, 5))));
        check(spans, &[(10, Ok(answer(1, 20)))], 15, &Memory::Stale(answer(1, 5)));
    }

    #[test]
    fn while_servers_fail_the_last_answer_serves() {
        let puts = [(10, Ok(answer(1, 20))), (31, failed())];
        check(SPANS, &puts, 31, &Memory::Fresh(Ok(answer(1, 1))));
        check(SPANS, &puts, 32, &Memory::Stale(answer(1, 20)));
        check(SPANS, &puts, 130, &Memory::None);
        let mut cache = Cache::new(SPANS);
        assert_eq!(cache.put("a", Ok(answer(1, 20)), 10 * SECOND_US), Ok(answer(1, 20)));
        assert_eq!(cache.put("a", failed(), 31 * SECOND_US), Ok(answer(1, 1)));
        assert_eq!(cache.put("a", failed(), 130 * SECOND_US), failed());
    }

    #[test]
    fn a_name_that_is_gone_is_not_served_from_memory() {
        let gone = Err(NameFault::NotFound);
        let puts = [(10, Ok(answer(1, 20))), (31, gone.clone())];
        check(SPANS, &puts, 60, &Memory::Fresh(gone));
        check(SPANS, &puts, 61, &Memory::None);
    }

    #[test]
    fn errors_are_kept_briefly() {
        check(SPANS, &[(10, failed())], 10, &Memory::Fresh(failed()));
        check(SPANS, &[(10, failed())], 11, &Memory::None);
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut cache = Cache::new(SPANS);
        for number in 0..100_u8 {
            let told = Ok(answer(number, 20));
            assert_eq!(cache.put(&number.to_string(), told.clone(), u64::from(number)), told);
            assert!(cache.names.len() <= 3);
        }
    }
}
