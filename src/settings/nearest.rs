//! The known word that a mistyped one most likely meant.

/// The nearest of `known`, if it is near enough to be meant.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let limit = (word.chars().count() / 3).max(1);
    known.into_iter().map(|candidate| (distance(&word, candidate), candidate)).filter(|(distance, _)| *distance <= limit).min().map(|(_, candidate)| candidate)
}

/// Only letters and digits, lower case: `bootstrap_servers`, `bootstrap.servers` and `bootstrapServers` are one name.
pub(super) fn plain(name: &str) -> String {
    name.chars().filter(|character| character.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Insertions, deletions, replacements and swaps of neighbours.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=right.len()).collect()];
    for (i, a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let mut best = (rows[i][j] + usize::from(a != b)).min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows.last().and_then(|row| row.last()).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_word_is_found_and_a_far_one_is_not() {
        let known = ["table", "topic", "topics", "write"];
        assert_eq!(nearest("tabel", known), Some("table"));
        assert_eq!(nearest("Topci", known), Some("topic"));
        assert_eq!(nearest("wirte", known), Some("write"));
        assert_eq!(nearest("partition", known), None);
        assert_eq!(nearest("", known), None);
    }

    #[test]
    fn spellings_of_one_name_are_equal() {
        assert_eq!(plain("bootstrapServers"), plain("bootstrap.servers"));
        assert_eq!(plain("bootstrap_servers"), plain("bootstrap-servers"));
    }
}
