//! What a plugin notes in one phase for a later one of the same exchange.

use std::any::Any;

use smallvec::SmallVec;

/// One note of each type. A plugin's notes are of a type of its own, so no other plugin sees them;
/// one plugin runs with one configuration in an exchange, so no two notes of it meet.
#[derive(Default)]
pub struct Notes(SmallVec<[Box<dyn Any>; 2]>);

impl Notes {
    /// Keeps a note; one of the same type is replaced. Costs one allocation, none for a mere mark.
    pub fn put<T: Any>(&mut self, note: T) {
        match self.get_mut::<T>() {
            Some(before) => *before = note,
            None => self.0.push(Box::new(note)),
        }
    }

    /// The note of this type.
    pub fn get<T: Any>(&self) -> Option<&T> {
        self.0.iter().find_map(|note| note.downcast_ref())
    }

    /// The note of this type, to be changed.
    pub fn get_mut<T: Any>(&mut self) -> Option<&mut T> {
        self.0.iter_mut().find_map(|note| note.downcast_mut())
    }

    /// Whether there is a note of this type.
    pub fn has<T: Any>(&self) -> bool {
        self.get::<T>().is_some()
    }

    /// Takes the note of this type out.
    pub fn take<T: Any>(&mut self) -> Option<T> {
        let at = self.0.iter().position(|note| note.is::<T>())?;
        self.0.swap_remove(at).downcast().ok().map(|note| *note)
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_found_by_its_type() {
        #[derive(Debug, PartialEq)]
        struct Mark;
        let mut notes = Notes::default();
        assert_eq!(notes.take::<Mark>(), None);
        notes.put(Mark);
        notes.put(7_u32);
        notes.put("a");
        notes.put(8_u32);
        assert!(notes.has::<Mark>());
        assert_eq!(notes.get::<u32>(), Some(&8));
        *notes.get_mut::<u32>().unwrap() += 1;
        assert_eq!(notes.take::<u32>(), Some(9));
        assert!(!notes.has::<u32>());
        notes.clear();
        assert!(!notes.has::<Mark>());
    }
}
