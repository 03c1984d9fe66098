//! What people read. Colour only on a terminal that has it, numbers with separators, tables without lines.

use std::io::{IsTerminal, stderr, stdout};

use comfy_table::{Table, presets::NOTHING};

use super::{connect::Obstacle, exit::Exit};

/// One error, as all commands print it.
pub fn error(text: &str) {
    eprintln!("{} {text}", paint(Colour::Red, "error:", stderr().is_terminal()));
}

/// Prints what stands in the way, and says how the command ends.
pub fn obstacle(obstacle: &Obstacle) -> Exit {
    error(&obstacle.to_string());
    obstacle.mended_by.exit()
}

pub fn warning(text: &str) {
    eprintln!("{} {text}", paint(Colour::Yellow, "warning:", stderr().is_terminal()));
}

/// Columns that line up; piped, it reads the same.
#[must_use]
pub fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    if !header.is_empty() {
        table.set_header(header.iter().copied());
    }
    table.add_rows(rows);
    table.column_iter_mut().for_each(|column| {
        column.set_padding((0, 2));
    });
    // Lines end where their text ends.
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// `1,204,511`
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `3h 12m`: the two largest units.
#[must_use]
pub fn duration(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds}s"),
        (0, 0, minutes, seconds) => format!("{minutes}m {seconds}s"),
        (0, hours, minutes, _) => format!("{hours}h {minutes}m"),
        (days, hours, _, _) => format!("{days}d {hours}h"),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    Red,
    Yellow,
    Bold,
}

/// Colour for standard output.
#[must_use]
pub fn coloured(colour: Colour, text: &str) -> String {
    paint(colour, text, stdout().is_terminal())
}

/// The user wants no colour, wherever it goes: <https://no-color.org>.
#[must_use]
pub fn is_plain() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

fn paint(colour: Colour, text: &str, terminal: bool) -> String {
    if !terminal || is_plain() {
        return text.to_owned();
    }
    let code = match colour {
        Colour::Red => "31;1",
        Colour::Yellow => "33;1",
        Colour::Bold => "1",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_204_511, "1,204,511")] {
            assert_eq!(count(number), text);
        }
    }

    #[test]
    fn durations_have_two_units() {
        for (seconds, text) in [(9, "9s"), (61, "1m 1s"), (11_520, "3h 12m"), (90_000, "1d 1h")] {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn a_table_has_no_lines_and_no_trailing_blanks() {
        assert_eq!(table(&["A", "B"], vec![vec!["x".into(), "1".into()], vec!["long".into(), "2".into()]]), "A     B\nx     1\nlong  2");
    }
}
