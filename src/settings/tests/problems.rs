//! problems.txt: files, and exactly what is printed of them.

use super::*;

/// `#### title`, directives (`% env A=b`, `% set a=b`, `% route , key: value`), the file, `====`, what is printed.
const CASES: &str = include_str!("problems.txt");

#[test]
fn each_mistake_is_answered_as_it_is_written_down() {
    let mut written = String::new();
    let mut different = Vec::new();
    for case in CASES.split("#### ").skip(1) {
        let (given, expected) = case.split_once("\n====\n").unwrap();
        let (title, given) = given.split_once('\n').unwrap_or((given, ""));
        let mut text = String::new();
        let (mut environment, mut sets) = (Vec::new(), Vec::new());
        for line in given.lines() {
            match line.strip_prefix("% ").and_then(|directive| directive.split_once(' ')) {
                Some(("env", variable)) => environment.extend(variable.split_once('=')),
                Some(("set", set)) => sets.push(set),
                Some(("route", keys)) => {
                    text += &format!("name: orders\nkafka: k:9092\ndatabase: sqlite:o.db\nroutes:\n  - {{ topic: orders, table: orders{keys} }}\n")
                }
                Some(("kafka", keys)) => {
                    text += &format!(
                        "name: orders\nkafka: {{ brokers: k, properties: {{ {keys} }} }}\ndatabase: sqlite:o.db\nroutes: [ {{ topic: orders, table: orders }} ]\n"
                    )
                }
                Some(("database", keys)) => {
                    text += &format!("name: orders\nkafka: k\ndatabase: {{ {keys} }}\nroutes: [ {{ topic: orders, table: orders }} ]\n")
                }
                _ => text += &format!("{line}\n"),
            }
        }
        let environment = [DATABASE, &environment].concat();
        let printed = match (Process { files: &[("orders.yaml", &text)], environment: &environment, sets: &sets }).load() {
            Ok(_) => "no problem\n".to_owned(),
            Err(problems) => problems.to_string(),
        };
        assert!(!printed.contains("GEHEIM"), "{title}: {printed}");
        if printed.trim_end() != expected.trim_end() {
            different.push(format!("{title}\n--- expected\n{}\n--- printed\n{printed}", expected.trim_end()));
        }
        written += &format!("#### {title}\n{given}\n====\n{printed}\n");
    }
    if std::env::var_os("ONCESINK_WRITE_REFERENCE").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/settings/tests/problems.txt"), written).unwrap();
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

/// docs/guarantees.md, "What is refused": each is among those that are printed here.
#[test]
fn what_the_guarantees_say_is_refused_is_refused() {
    let guarantees = include_str!("../../../docs/guarantees.md");
    let section = guarantees.split("### What is refused").nth(1).unwrap().split("\n### ").next().unwrap();
    let errors: Vec<&str> = CASES.lines().filter_map(|line| line.strip_prefix("error: ")).collect();
    let rows: Vec<&str> = section.lines().filter(|line| line.starts_with("| ")).skip(2).collect();
    assert!(rows.len() >= 20, "the table is found");
    for row in rows {
        let said = row.split(" | ").nth(1).unwrap();
        let is_said = |error: &str| {
            let mut parts = said.split('…');
            let Some(mut rest) = error.strip_prefix(parts.next().unwrap_or_default()) else { return false };
            let found = parts.all(|part| rest.split_once(part).map(|(_, after)| rest = after).is_some());
            found && rest.is_empty()
        };
        assert!(errors.iter().any(|error| is_said(error)), "nothing prints: {said}");
    }
}

#[test]
fn several_files_are_one_process() {
    let second = SHORTEST.replace("name: orders", "name: audit") + "log: { level: debug }\nmax_buffer: 128MiB\n";
    let problems =
        Process { files: &[("a.yaml", SHORTEST), ("b.yaml", &second)], environment: DATABASE, sets: &["kafka.group=x", "adit:kafka.group=y"] }.refused();
    assert_eq!(
        problems,
        "error: no file has the name `adit`
  --> --set adit:kafka.group
  there is orders, audit
error: `kafka.group` cannot be the same for 2 files
  --> --set kafka.group  kafka.group
  say which pipeline: --set orders:kafka.group=…
error: `max_buffer` is 134217728 bytes here and 33554432 bytes in a.yaml
  --> b.yaml  max_buffer
  it belongs to the process: make it equal in all files, or write it in none and give it by --set
error: `log.level` is debug here and info in a.yaml
  --> b.yaml  log.level
  it belongs to the process: make it equal in all files, or write it in none and give it by --set
error: `x` is the group of a.yaml as well
  --> b.yaml  kafka.group
  they would take partitions from each other; give each its own
5 problems; nothing was started
"
    );
    let problems = Process { files: &[("a.yaml", SHORTEST), ("b.yaml", SHORTEST)], environment: DATABASE, sets: &[] }.refused();
    assert!(problems.starts_with("error: `orders` is the name of a.yaml as well\n  --> b.yaml  name\n"), "{problems}");
}

#[test]
fn a_file_that_is_not_there_is_a_problem_and_the_others_are_still_judged() {
    let problems = {
        let names = ["missing.yaml", "b.yaml"].map(PathBuf::from);
        let open = |file: &Path| if file == Path::new("b.yaml") { Ok(b"name: a b\n".to_vec()) } else { Err(io::Error::from(io::ErrorKind::NotFound)) };
        load_by(open, &names, std::iter::empty(), &[]).unwrap_err()
    };
    assert_eq!(problems.len(), 5, "{problems}");
    assert!(problems.to_string().contains("the file cannot be read: entity not found\n  --> missing.yaml\n"), "{problems}");
}

#[test]
fn colour_is_only_where_it_is_asked_for() {
    let problems = Process { files: &[("orders.yaml", "nmae: x\n")], environment: &[], sets: &[] }.load().unwrap_err();
    assert!(problems.render(true).contains("\u{1b}[1;31merror\u{1b}[0m"));
    assert!(!problems.render(false).contains('\u{1b}'));
}
