//! Which registers go into one request.

use crate::{Modbus, ModbusField};

/// Most registers one request may ask for (Modbus application protocol 1.1b3, 6.3 and 6.4).
const MOST: u16 = 125;

/// Consecutive registers. A span of a definition that the parser let through ends at 65535 at the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The first, wire address.
    pub address: u16,
    /// How many.
    pub count: u16,
}

/// Where the registers of one field are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The number under which the field was given.
    pub field: usize,
    /// Index of the block.
    pub block: usize,
    /// The field's own registers.
    pub span: Span,
}

/// Fields in as few requests as a definition allows: at most `modbus_read_max_registers` in one, registers between
/// two fields only with `modbus_allow_gaps`. A field that is longer than that is read alone, and whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadPlan {
    blocks: Vec<Span>,
    parts: Vec<Part>,
}

impl Span {
    fn end(self) -> u32 {
        u32::from(self.address) + u32::from(self.count)
    }

    /// The words of `part` out of those of this span; `None` if they are not in it.
    #[must_use]
    pub fn slice(self, words: &[u16], part: Span) -> Option<&[u16]> {
        let start = usize::from(part.address.checked_sub(self.address)?);
        words.get(start..start + usize::from(part.count))
    }
}

impl From<&ModbusField> for Span {
    fn from(field: &ModbusField) -> Self {
        Span { address: field.address, count: field.count }
    }
}

impl ReadPlan {
    /// A plan for `fields`, each with a number of the caller's.
    #[must_use]
    pub fn new<'a>(modbus: &Modbus, fields: impl IntoIterator<Item = (usize, &'a ModbusField)>) -> Self {
        let mut wanted: Vec<(Span, usize)> =
            fields.into_iter().map(|(number, field)| (Span::from(field), number)).collect();
        wanted.sort_unstable();
        let most = modbus.max_registers.clamp(1, MOST);
        let mut plan = Self::default();
        for (span, field) in wanted {
            let last = plan.blocks.last_mut();
            match last.and_then(|last| Some((union(*last, span, most, modbus.allow_gaps)?, last))) {
                Some((both, last)) => *last = both,
                None => plan.blocks.push(span),
            }
            plan.parts.push(Part { field, block: plan.blocks.len() - 1, span });
        }
        plan
    }

    /// What to read, by address.
    #[must_use]
    pub fn blocks(&self) -> &[Span] {
        &self.blocks
    }

    /// Where each field is, by address.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The fields of one block.
    pub fn parts_of(&self, block: usize) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(move |part| part.block == block)
    }
}

/// Both as one, if that may be. `first` does not begin after `second`.
fn union(first: Span, second: Span, most: u16, gaps: bool) -> Option<Span> {
    if !gaps && u32::from(second.address) > first.end() {
        return None;
    }
    // The same registers twice are no longer request.
    let count = first.end().max(second.end()) - u32::from(first.address);
    let count = u16::try_from(count).ok().filter(|count| *count <= most.max(first.count))?;
    Some(Span { count, ..first })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Rtu, Shape, Table, WordOrder};
    use proptest::prelude::*;

    fn modbus(max_registers: u16, allow_gaps: bool) -> Modbus {
        Modbus { table: Table::Holding, max_registers, allow_gaps, rtu: Rtu::default() }
    }

    fn field((address, count): (u16, u16)) -> ModbusField {
        ModbusField { address, count, shape: Shape::Text, order: WordOrder::HighFirst }
    }

    fn plan(modbus: &Modbus, spans: &[(u16, u16)]) -> ReadPlan {
        let fields: Vec<ModbusField> = spans.iter().copied().map(field).collect();
        ReadPlan::new(modbus, fields.iter().enumerate())
    }

    fn blocks(max_registers: u16, allow_gaps: bool, spans: &[(u16, u16)]) -> Vec<(u16, u16)> {
        let plan = plan(&modbus(max_registers, allow_gaps), spans);
        plan.blocks().iter().map(|span| (span.address, span.count)).collect()
    }

    #[test]
    fn touching_and_overlapping_fields_share_a_block() {
        assert_eq!(blocks(125, false, &[(4, 2), (0, 2), (2, 2)]), [(0, 6)]);
        assert_eq!(blocks(125, false, &[(0, 4), (2, 1), (3, 4)]), [(0, 7)]);
        assert_eq!(blocks(125, false, &[(0, 2), (3, 2)]), [(0, 2), (3, 2)], "a gap of one register");
        assert_eq!(blocks(125, false, &[]), []);
    }

    #[test]
    fn gaps_are_read_only_where_allowed_and_within_the_maximum() {
        let spans = [(0, 2), (10, 2), (100, 2), (130, 2), (65_534, 2)];
        assert_eq!(blocks(125, true, &spans), [(0, 102), (130, 2), (65_534, 2)]);
        assert_eq!(blocks(12, true, &spans), [(0, 12), (100, 2), (130, 2), (65_534, 2)]);
        assert_eq!(blocks(11, true, &spans).len(), 5);
        assert_eq!(blocks(60_000, true, &spans), blocks(125, true, &spans), "the protocol's own limit");
    }

    #[test]
    fn one_register_at_most_reads_each_field_alone() {
        assert_eq!(blocks(1, true, &[(0, 2), (2, 2), (4, 1)]), [(0, 2), (2, 2), (4, 1)]);
        assert_eq!(blocks(1, false, &[(0, 2), (0, 2)]), [(0, 2)], "the same registers are read once");
    }

    fn any_spans() -> impl Strategy<Value = Vec<(u16, u16)>> {
        prop::collection::vec((prop_oneof![0u16..400, 65_400u16..65_500], 1u16..36), 0..40)
    }

    proptest! {
        /// Every field lies whole in exactly one block; no block is larger than allowed, unless one field alone is;
        /// no register is read that nobody wants, unless gaps are allowed.
        #[test]
        fn the_rules_hold(spans in any_spans(), most in 1u16..130, gaps in any::<bool>()) {
            let plan = plan(&modbus(most, gaps), &spans);
            let mut seen: Vec<usize> = plan.parts().iter().map(|part| part.field).collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..spans.len()).collect::<Vec<_>>());
            for part in plan.parts() {
                let block = plan.blocks()[part.block];
                prop_assert_eq!((part.span.address, part.span.count), spans[part.field]);
                let words: Vec<u16> = (0..block.count).map(|offset| block.address.wrapping_add(offset)).collect();
                let own: Vec<u16> = (0..part.span.count).map(|offset| part.span.address + offset).collect();
                prop_assert_eq!(block.slice(&words, part.span), Some(&own[..]));
            }
            for (index, block) in plan.blocks().iter().enumerate() {
                let longest = plan.parts_of(index).map(|part| part.span.count).max().unwrap();
                prop_assert!(block.count <= most.min(125).max(longest));
                let wanted = |address: u32| plan.parts_of(index)
                    .any(|part| (u32::from(part.span.address)..part.span.end()).contains(&address));
                for address in u32::from(block.address)..block.end() {
                    prop_assert!(gaps || wanted(address), "{address} is read for nobody");
                }
                prop_assert!(wanted(u32::from(block.address)) && wanted(block.end() - 1), "no gap at an end");
            }
        }

        #[test]
        fn the_order_of_the_file_does_not_matter(
            spans in any_spans(), most in 1u16..130, gaps in any::<bool>(), seed in any::<u64>(),
        ) {
            let modbus = modbus(most, gaps);
            let fields: Vec<(usize, ModbusField)> = spans.iter().copied().map(field).enumerate().collect();
            let mut shuffled = fields.clone();
            shuffled.sort_by_key(|(number, _)| (*number as u64 + 1).wrapping_mul(seed | 1));
            let of = |fields: &[(usize, ModbusField)]| ReadPlan::new(&modbus, fields.iter().map(|(n, f)| (*n, f)));
            prop_assert_eq!(of(&fields), of(&shuffled));
        }

        /// Without gaps there is one block for each run of fields that touch, if it fits.
        #[test]
        fn there_are_as_few_blocks_as_allowed(spans in prop::collection::vec((0u16..60, 1u16..4), 1..20)) {
            let mut used = [false; 64];
            for (address, count) in &spans {
                (*address..address + count).for_each(|address| used[usize::from(address)] = true);
            }
            let runs = used.windows(2).filter(|pair| !pair[0] && pair[1]).count() + usize::from(used[0]);
            prop_assert_eq!(blocks(125, false, &spans).len(), runs);
            prop_assert_eq!(blocks(125, true, &spans).len(), 1);
        }
    }
}
