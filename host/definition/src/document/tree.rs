//! All queries of an address as one tree: steps that begin alike are taken once.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::Query;
use crate::query::{Scalar, Step};

/// What is asked for at one place of the document.
#[derive(Debug)]
pub(super) struct Node {
    /// Nodes are numbered so that everything below one follows it.
    pub id: usize,
    /// The first id that is not below it.
    pub end: usize,
    /// Fields whose value is here.
    pub fields: Vec<usize>,
    /// Sorted by name.
    pub members: Vec<(Box<str>, Node)>,
    /// Sorted by index.
    pub elements: Vec<(usize, Node)>,
    pub searches: Vec<Search>,
    /// What all searches together look for.
    pub sought: Sought,
}

/// `[{…}]`
#[derive(Debug)]
pub(super) struct Search {
    members: Members,
    /// Its members in the list of hits.
    pub hits: Range<usize>,
    pub node: Node,
}

/// Members that tell one element of an array from another.
#[derive(Debug, Default)]
pub(super) struct Sought {
    /// By name: what it is to equal, and which hit that is.
    pub names: Vec<(Box<str>, Vec<Wanted>)>,
    /// How many there are in all.
    pub hits: usize,
}

/// What a member is to equal.
#[derive(Debug)]
pub(super) struct Wanted {
    pub scalar: Scalar,
    pub hit: usize,
}

type Members = Vec<(Box<str>, Scalar)>;

impl Node {
    /// The tree of these queries, each with its field.
    pub fn root<'a>(queries: impl Iterator<Item = (usize, &'a Query)>) -> Self {
        let mut growing = Growing::default();
        for (field, query) in queries {
            growing.add(query, field);
        }
        growing.grown(0)
    }

    pub fn member(&self, name: &[u8]) -> Option<&Self> {
        // A few are compared faster than they are searched: most differ in length.
        if self.members.len() <= 16 {
            return self.members.iter().find(|(own, _)| own.as_bytes() == name).map(|(_, node)| node);
        }
        let found = self.members.binary_search_by(|(own, _)| own.as_bytes().cmp(name)).ok()?;
        self.members.get(found).map(|(_, node)| node)
    }

    /// The node a step leads to.
    pub fn child(&self, step: &Step) -> Option<&Self> {
        match step {
            Step::Member(name) => self.member(name.as_bytes()),
            Step::Element(index) => self.elements.iter().find(|(own, _)| own == index).map(|(_, node)| node),
            Step::Where(members) => {
                self.searches.iter().find(|search| search.members == *members).map(|search| &search.node)
            }
        }
    }

    /// Everything directly below.
    pub fn children(&self) -> impl Iterator<Item = &Self> {
        let members = self.members.iter().map(|(_, node)| node);
        let elements = self.elements.iter().map(|(_, node)| node);
        members.chain(elements).chain(self.searches.iter().map(|search| &search.node))
    }
}

/// A node that gets more queries.
#[derive(Default)]
struct Growing {
    fields: Vec<usize>,
    members: BTreeMap<Box<str>, Growing>,
    elements: BTreeMap<usize, Growing>,
    /// By what tells one from another.
    searches: BTreeMap<String, (Members, Growing)>,
}

impl Growing {
    fn add(&mut self, query: &Query, field: usize) {
        let mut node = self;
        for part in query.parts() {
            node = match &part.step {
                Step::Member(name) => node.members.entry(name.clone()).or_default(),
                Step::Element(index) => node.elements.entry(*index).or_default(),
                Step::Where(members) => {
                    let new = || (members.clone(), Self::default());
                    &mut node.searches.entry(format!("{members:?}")).or_insert_with(new).1
                }
            };
        }
        node.fields.push(field);
    }

    fn grown(self, id: usize) -> Node {
        let mut end = id + 1;
        let mut below = |growing: Self| {
            let node = growing.grown(end);
            end = node.end;
            node
        };
        let members = self.members.into_iter().map(|(name, node)| (name, below(node))).collect();
        let elements = self.elements.into_iter().map(|(index, node)| (index, below(node))).collect();
        let mut sought = Sought::default();
        let search =
            |(members, node): (Members, Self)| Search { hits: sought.add(&members), members, node: below(node) };
        let searches = self.searches.into_values().map(search).collect();
        Node { id, end, fields: self.fields, members, elements, searches, sought }
    }
}

impl Sought {
    fn add(&mut self, members: &[(Box<str>, Scalar)]) -> Range<usize> {
        let first = self.hits;
        for (name, scalar) in members {
            let wanted = Wanted { scalar: scalar.clone(), hit: self.hits };
            self.hits += 1;
            match self.names.iter_mut().find(|(own, _)| own == name) {
                Some((_, list)) => list.push(wanted),
                None => self.names.push((name.clone(), vec![wanted])),
            }
        }
        first..self.hits
    }
}
