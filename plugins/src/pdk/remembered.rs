//! What an instance of a plugin has worked out and would work out again for the same input.

use std::borrow::Borrow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::RandomState;

/// At most `MAX` answers by what was asked; one more, and all others are forgotten. An instance
/// belongs to one core, so nothing is locked.
pub struct Remembered<K, V, const MAX: usize>(RefCell<HashMap<K, V, RandomState>>);

impl<K, V, const MAX: usize> Default for Remembered<K, V, MAX> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<K: Eq + Hash, V: Clone, const MAX: usize> Remembered<K, V, MAX> {
    /// What is remembered of this.
    pub fn get<Q: Eq + Hash + ?Sized>(&self, asked: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.0.borrow().get(asked).cloned()
    }

    /// Remembers this.
    pub fn keep(&self, asked: K, answer: V) {
        let mut known = self.0.borrow_mut();
        if known.len() >= MAX {
            known.clear();
        }
        known.insert(asked, answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_remembered_than_was_agreed() {
        let known = Remembered::<Box<str>, u32, 3>::default();
        for (number, text) in ["a", "b", "c", "a"].into_iter().enumerate() {
            known.keep(text.into(), number as u32);
        }
        assert_eq!(["a", "b", "c", "d"].map(|text| known.get(text)), [Some(3), None, None, None]);
        known.keep("d".into(), 4);
        assert_eq!(
            ["a", "b", "c", "d"].map(|text| known.get(text)),
            [Some(3), None, None, Some(4)]
        );
    }
}
