//! What the broker knows of its clients, and what it sends them.

use std::collections::BTreeMap;

use tokio::sync::mpsc;

use super::faults::{Acks, Faults, Twice};
use super::frames::{Connect, Cursor, Publish, frame, matches};

#[derive(Default)]
pub(super) struct State {
    pub(super) faults: Faults,
    pub(super) connects: Vec<Connect>,
    pub(super) received: Vec<Publish>,
    pub(super) acknowledged: u64,
    pub(super) clients: BTreeMap<u64, Client>,
    pub(super) retained: BTreeMap<String, Publish>,
    pub(super) next_client: u64,
}

pub(super) struct Client {
    pub(super) version_5: bool,
    pub(super) out: mpsc::UnboundedSender<Vec<u8>>,
    pub(super) filters: BTreeMap<String, u8>,
    pub(super) held: Vec<u16>,
    pub(super) next_id: u16,
}

impl State {
    pub(super) fn deliver(&mut self, publish: &Publish) {
        let faults = self.faults.clone();
        for client in self.clients.values_mut() {
            let qos = client.filters.iter().filter(|(filter, _)| matches(filter, &publish.topic)).map(|(_, qos)| *qos);
            if let Some(most) = qos.max() {
                client.deliver(&Publish { qos: publish.qos.min(most), ..publish.clone() }, &faults);
            }
        }
    }
}

impl Client {
    pub(super) fn deliver(&mut self, publish: &Publish, faults: &Faults) {
        let mut publish = publish.clone();
        publish.retain |= faults.retain_flag;
        if faults.empty_payloads {
            publish.payload.clear();
        }
        let given = publish.id;
        self.number(&mut publish, given);
        self.send(&publish);
        match faults.twice {
            Twice::No => {}
            Twice::WithDup => {
                publish.dup = publish.qos > 0;
                self.send(&publish);
            }
            Twice::Plain => {
                self.number(&mut publish, 0);
                self.send(&publish);
            }
        }
    }

    pub(super) fn number(&mut self, publish: &mut Publish, given: u16) {
        publish.id = given;
        if publish.qos > 0 && given == 0 {
            self.next_id = self.next_id.checked_add(1).unwrap_or(1);
            publish.id = self.next_id;
        }
    }

    pub(super) fn send(&self, publish: &Publish) {
        // A client that has gone misses it.
        let _ = self.out.send(publish.write(self.version_5));
    }
}

pub(super) fn acknowledge(client: &mut Client, id: u16, acks: Acks) {
    let frames = match acks {
        Acks::Prompt => vec![puback(id)],
        Acks::Twice => vec![puback(id), puback(id)],
        Acks::Unknown => vec![puback(id ^ 0x8000), puback(id)],
        Acks::Refuse(code) => {
            let [high, low] = id.to_be_bytes();
            vec![frame(0x40, &[high, low, code])]
        }
        Acks::Never => Vec::new(),
        Acks::Held => {
            client.held.push(id);
            Vec::new()
        }
    };
    for frame in frames {
        // A client that has gone misses it.
        let _ = client.out.send(frame);
    }
}

pub(super) fn subscribe(state: &mut State, number: u64, body: &[u8], version_5: bool, faults: &Faults) {
    let retained: Vec<Publish> = state.retained.values().cloned().collect();
    let Some(client) = state.clients.get_mut(&number) else { return };
    let mut body = Cursor(body);
    let mut answer = body.number().to_be_bytes().to_vec();
    if version_5 {
        body.properties();
        answer.push(0);
    }
    let mut granted = Vec::new();
    while !body.is_empty() {
        let (filter, qos) = (body.text(), (body.byte() & 3).min(1));
        if faults.refused_filters.contains(&filter) {
            answer.push(if version_5 { 0x87 } else { 0x80 });
        } else {
            answer.push(qos);
            client.filters.insert(filter.clone(), qos);
            granted.push((filter, qos));
        }
    }
    // A client that has gone misses it.
    let _ = client.out.send(frame(0x90, &answer));
    for (filter, most) in granted {
        for kept in retained.iter().filter(|kept| matches(&filter, &kept.topic)) {
            client.deliver(&Publish { qos: kept.qos.min(most), ..kept.clone() }, faults);
        }
    }
}

pub(super) fn unsubscribe(state: &mut State, number: u64, body: &[u8], version_5: bool) {
    let Some(client) = state.clients.get_mut(&number) else { return };
    let mut body = Cursor(body);
    let mut answer = body.number().to_be_bytes().to_vec();
    if version_5 {
        body.properties();
        answer.push(0);
    }
    while !body.is_empty() {
        client.filters.remove(&body.text());
        if version_5 {
            answer.push(0);
        }
    }
    // A client that has gone misses it.
    let _ = client.out.send(frame(0xB0, &answer));
}

pub(super) fn puback(id: u16) -> Vec<u8> {
    ack(0x40, id)
}

pub(super) fn ack(first: u8, id: u16) -> Vec<u8> {
    frame(first, &id.to_be_bytes())
}
