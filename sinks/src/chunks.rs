//! Rows in statements of many, where a database binds each value by itself.

/// How much one statement takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChunkLimits {
    pub binds: usize,
    pub rows: usize,
}

/// Cuts a selection into runs of a few sizes only, so that each statement is prepared once: as many rows as fit, then powers of two.
pub(crate) fn chunks<T>(selection: &[T], columns: usize, limits: ChunkLimits) -> Vec<&[T]> {
    let most = (limits.binds / columns.max(1)).clamp(1, limits.rows);
    let mut chunks = Vec::new();
    let mut rest = selection;
    while !rest.is_empty() {
        let size = if rest.len() >= most { most } else { 1 << rest.len().ilog2() };
        let (chunk, others) = rest.split_at(size);
        chunks.push(chunk);
        rest = others;
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_the_selection_within_the_limits() {
        let limits = ChunkLimits { binds: 32_766, rows: 512 };
        for (rows, columns) in [(0, 8), (1, 8), (511, 8), (512, 8), (5000, 8), (100, 1000), (3, 40_000)] {
            let selection: Vec<u32> = (0..rows).collect();
            let chunks = chunks(&selection, columns, limits);
            assert_eq!(chunks.concat(), selection);
            assert!(chunks.iter().all(|chunk| chunk.len() == 1 || chunk.len() * columns <= limits.binds));
        }
    }
}
