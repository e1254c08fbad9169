//! Which waiting reads go into one request, and how its answer is split again. Pure: knows no bus and no queue.

use crate::transport::Block;

/// One request for several reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Merged {
    /// What is asked for.
    pub(super) block: Block,
    /// Indices of the reads it answers.
    pub(super) parts: Vec<usize>,
}

/// Merges blocks of one table that touch or overlap, as long as the request stays within `most` values. Gaps are
/// never read: a device may refuse the whole request for one register it does not have. Each block is in exactly
/// one request; a block that is too large by itself stays alone.
pub(super) fn merge(blocks: &[Block], most: u16) -> Vec<Merged> {
    let mut order: Vec<(usize, &Block)> = blocks.iter().enumerate().collect();
    order.sort_by_key(|(_, block)| (block.table, block.address, block.count));
    let mut requests: Vec<Merged> = Vec::new();
    for (index, block) in order {
        if let Some(last) = requests.last_mut()
            && let Some(union) = union(last.block, *block, most)
        {
            last.block = union;
            last.parts.push(index);
            continue;
        }
        requests.push(Merged { block: *block, parts: vec![index] });
    }
    requests
}

/// Both blocks as one, if they touch or overlap and stay within `most`. `first` does not begin after `second`.
fn union(first: Block, second: Block, most: u16) -> Option<Block> {
    let end = |block: Block| u32::from(block.address) + u32::from(block.count);
    if first.table != second.table || u32::from(second.address) > end(first) {
        return None;
    }
    let count = end(first).max(end(second)) - u32::from(first.address);
    let count = u16::try_from(count).ok().filter(|count| *count <= most)?;
    Some(Block { count, ..first })
}

/// The values of `part` out of the answer to `whole`; `None` if they are not in it.
pub(super) fn slice(whole: Block, values: &[u16], part: Block) -> Option<Vec<u16>> {
    if whole.table != part.table {
        return None;
    }
    let start = usize::from(part.address.checked_sub(whole.address)?);
    values.get(start..start + usize::from(part.count)).map(<[u16]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Table;
    use proptest::prelude::*;

    fn holding(address: u16, count: u16) -> Block {
        Block { table: Table::Holding, address, count }
    }

    fn blocks_of(requests: &[Merged]) -> Vec<(u16, u16, Vec<usize>)> {
        requests.iter().map(|r| (r.block.address, r.block.count, r.parts.clone())).collect()
    }

    #[test]
    fn touching_and_overlapping_reads_become_one() {
        let blocks = [holding(10, 2), holding(0, 4), holding(4, 2), holding(5, 3), holding(11, 1)];
        assert_eq!(blocks_of(&merge(&blocks, 125)), [(0, 8, vec![1, 2, 3]), (10, 2, vec![0, 4])]);
    }

    #[test]
    fn tables_and_gaps_and_the_limit_separate() {
        let input = Block { table: Table::Input, address: 2, count: 2 };
        let blocks = [holding(0, 2), input, holding(3, 1), holding(4, 120), holding(124, 5)];
        let merged = merge(&blocks, 125);
        assert_eq!(blocks_of(&merged), [(0, 2, vec![0]), (3, 121, vec![2, 3]), (124, 5, vec![4]), (2, 2, vec![1])],);
        assert_eq!(blocks_of(&merge(&[holding(65_530, 6), holding(65_535, 1)], 125)), [(65_530, 6, vec![0, 1])]);
    }

    fn any_block() -> impl Strategy<Value = Block> {
        let table = prop::sample::select(vec![Table::Coils, Table::Discrete, Table::Holding, Table::Input]);
        (table, 0u16..200, 1u16..20).prop_map(|(table, address, count)| Block { table, address, count })
    }

    proptest! {
        /// Each read is in one request, gets exactly its own values, and no request reads what nobody asked for or
        /// more than allowed.
        #[test]
        fn every_read_gets_its_own_values(blocks in prop::collection::vec(any_block(), 0..30), most in 20u16..60) {
            let merged = merge(&blocks, most);
            let mut seen: Vec<usize> = merged.iter().flat_map(|request| request.parts.clone()).collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..blocks.len()).collect::<Vec<_>>());
            for request in &merged {
                let whole = request.block;
                prop_assert!(whole.count <= most);
                let values: Vec<u16> = (whole.address..whole.address + whole.count).collect();
                for address in &values {
                    let asked = |part: &usize| (blocks[*part].address..blocks[*part].address + blocks[*part].count).contains(address);
                    prop_assert!(request.parts.iter().any(asked), "{address} is read for nobody");
                }
                for part in &request.parts {
                    let block = blocks[*part];
                    let expected: Vec<u16> = (block.address..block.address + block.count).collect();
                    prop_assert_eq!(slice(whole, &values, block), Some(expected));
                }
            }
        }
    }
}
