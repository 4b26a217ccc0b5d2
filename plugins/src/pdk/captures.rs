//! What the groups of a route's regular expression took of the path.

/// The groups of a match: the whole match first, then each group with its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captures(Vec<Group>);

/// One group: its name, and what it took.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    name: Option<Box<str>>,
    text: Option<Box<[u8]>>,
}

impl Captures {
    /// Adds the next group.
    pub fn push(&mut self, name: Option<&str>, text: Option<&[u8]>) {
        self.0.push(Group { name: name.map(Into::into), text: text.map(Into::into) });
    }

    /// What a named group took.
    pub fn named(&self, name: &[u8]) -> Option<&[u8]> {
        let is = |group: &&Group| group.name.as_deref().is_some_and(|n| n.as_bytes() == name);
        self.0.iter().find(is)?.text.as_deref()
    }

    /// What a group took by its number; 0 is the whole match.
    pub fn numbered(&self, number: usize) -> Option<&[u8]> {
        self.0.get(number)?.text.as_deref()
    }

    /// The groups behind the whole match, in order: each with its name, and what it took.
    pub fn groups(&self) -> impl Iterator<Item = (Option<&str>, Option<&[u8]>)> {
        self.0.iter().skip(1).map(|group| (group.name.as_deref(), group.text.as_deref()))
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}
