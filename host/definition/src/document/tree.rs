//! All queries of an address as one tree: steps that begin alike are taken once.

use std::collections::BTreeMap;

use crate::Query;
use crate::query::{Scalar, Step};

/// The queries.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub root: Node,
    /// Nodes.
    pub size: usize,
}

/// What is asked for at one place of the document.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// Nodes are numbered so that everything below one follows it.
    pub id: usize,
    /// The first id that is not below it.
    pub end: usize,
    /// Fields whose value is here.
    pub fields: Vec<usize>,
    members: BTreeMap<Box<str>, Node>,
    pub elements: BTreeMap<usize, Node>,
    /// By what tells one from another.
    pub searches: BTreeMap<String, Search>,
}

/// `[{…}]`
#[derive(Debug)]
pub(super) struct Search {
    pub members: Vec<(Box<str>, Scalar)>,
    pub node: Node,
}

impl Tree {
    pub fn add(&mut self, query: &Query, field: usize) {
        let mut node = &mut self.root;
        for part in query.parts() {
            node = node.child_mut(&part.step);
        }
        node.fields.push(field);
    }

    /// Numbers the nodes; to be called once all queries are in.
    pub fn finish(&mut self) {
        self.size = self.root.number(0);
    }
}

impl Node {
    pub fn is_leaf(&self) -> bool {
        self.members.is_empty() && self.elements.is_empty() && self.searches.is_empty()
    }

    pub fn member(&self, name: &str) -> Option<&Self> {
        self.members.get(name)
    }

    /// The node a step leads to.
    pub fn child(&self, step: &Step) -> Option<&Self> {
        match step {
            Step::Member(name) => self.member(name),
            Step::Element(index) => self.elements.get(index),
            Step::Where(members) => self.searches.get(&key(members)).map(|search| &search.node),
        }
    }

    fn child_mut(&mut self, step: &Step) -> &mut Self {
        match step {
            Step::Member(name) => self.members.entry(name.clone()).or_default(),
            Step::Element(index) => self.elements.entry(*index).or_default(),
            Step::Where(members) => {
                let new = || Search { members: members.clone(), node: Self::default() };
                &mut self.searches.entry(key(members)).or_insert_with(new).node
            }
        }
    }

    /// Everything directly below.
    pub fn children(&self) -> impl Iterator<Item = &Self> {
        let searches = self.searches.values().map(|search| &search.node);
        self.members.values().chain(self.elements.values()).chain(searches)
    }

    fn number(&mut self, first: usize) -> usize {
        self.id = first;
        let searches = self.searches.values_mut().map(|search| &mut search.node);
        let children = self.members.values_mut().chain(self.elements.values_mut()).chain(searches);
        self.end = children.fold(first + 1, |next, node| node.number(next));
        self.end
    }
}

fn key(members: &[(Box<str>, Scalar)]) -> String {
    format!("{members:?}")
}
