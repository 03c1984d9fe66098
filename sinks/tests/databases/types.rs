//! Values of every kind, at their edges, as they come out again.

use oncesink_sinks::{
    fault::FaultClass,
    model::{Operation, WriteMode},
    sink::ApplyError,
};

use crate::{
    on_each,
    world::{self, Kind, V, World, t},
};

on_each!(long_and_empty_values, integers_and_floats_at_their_edges);

async fn long_and_empty_values(world: World) {
    let (text, bytes) = match world.kind() {
        Kind::Postgres => ("TEXT", "bytea"),
        Kind::MySql | Kind::MariaDb => ("LONGTEXT", "BLOB"),
        Kind::Sqlite => ("TEXT", "BLOB"),
    };
    world.run(&format!("CREATE TABLE things (id BIGINT PRIMARY KEY, a {text}, b {bytes})")).await;
    let mut worker = world.worker("things", WriteMode::Upsert, None).await;
    let long = "ä€😀\"'\\{},".repeat(80_000);
    worker.write(vec![vec![V::I(1), t(""), V::Y(vec![])], vec![V::I(2), t(&long), V::Y(vec![0, 255, 10])], vec![V::I(3), V::N, V::N]]).await;
    assert!(world.texts("SELECT a FROM things ORDER BY id").await == [Some(String::new()), Some(long), None]);
    let hex = if world.is_postgres() { "encode(b, 'hex')" } else { "hex(b)" };
    assert_eq!(
        world.rows(&["id", hex], "FROM things ORDER BY id").await[..2],
        ["1|".to_owned(), format!("2|{}", if world.is_postgres() { "00ff0a" } else { "00FF0A" })]
    );
}

async fn integers_and_floats_at_their_edges(world: World) {
    world.run("CREATE TABLE things (id BIGINT PRIMARY KEY, f DOUBLE PRECISION, b BOOLEAN)").await;
    let mut worker = world.worker("things", WriteMode::Upsert, None).await;
    let numbers = [(i64::MIN, f64::MIN_POSITIVE), (-1, -0.1), (0, 1e-320), (1, 0.1 + 0.2), (i64::MAX, f64::MAX)];
    worker.write(numbers.iter().map(|(id, float)| vec![V::I(*id), V::F(*float), V::B(*id > 0)]).collect()).await;
    for (id, float) in numbers {
        let texts = world.rows(&["id", "f", "CASE WHEN b THEN 't' ELSE 'f' END"], &format!("FROM things WHERE id = {id}")).await;
        let parts: Vec<&str> = texts[0].split('|').collect();
        assert_eq!((parts[0], parts[2]), (id.to_string().as_str(), if id > 0 { "t" } else { "f" }));
        // SQLite prints 15 digits; that the number itself is exact, the next statement says.
        assert!(!world.is_postgres() || parts[1].parse::<f64>().unwrap() == float, "{parts:?}");
    }
    let exact = world.rows(&["count(*)"], "FROM things WHERE f = 0.30000000000000004 OR f = 1.7976931348623157e308").await;
    assert_eq!(exact, ["2"]);
}

/// 2026-11-21T01:02:03.000004Z in microseconds.
const INSTANT: i64 = 1_795_222_923_000_004;

#[tokio::test]
async fn every_kind_of_postgres() {
    world::on_postgres(|world| async move {
        world
            .run(
                "CREATE TYPE mood AS ENUM ('sad', 'so-so'); CREATE DOMAIN positive AS numeric(10,2) CHECK (VALUE > 0);
                 CREATE TABLE things (id int2 PRIMARY KEY, a uuid, b timestamptz, c timestamp(3), d date, e time, f numeric, g jsonb, h json,
                   i mood, j int4[], k inet, l bytea, m float4, n char(5), o positive, p text[], q interval, r varchar(4), s bit(4), t int4)",
            )
            .await;
        let mut worker = world.worker("things", WriteMode::Upsert, None).await;
        let uuid = [0x67, 0xe5, 0x50, 0x44, 0x10, 0xb1, 0x42, 0x6f, 0x92, 0x47, 0xbb, 0x68, 0x0e, 0x5f, 0xe0, 0xc8];
        let digits = "1234567890123456789012345678901234567890.0123456789";
        let full = vec![
            V::I(1),
            V::U(uuid),
            V::I(INSTANT),
            V::I(INSTANT),
            V::I(20_778),
            V::I(3_723_000_004),
            t(digits),
            t("{\"a\": [1, null]}"),
            t("{ \"b\":1.50}"),
            t("so-so"),
            t("{1,NULL,3}"),
            t("10.0.0.0/8"),
            V::Y(vec![0, 1]),
            V::F(0.1),
            t("ab"),
            t("12.50"),
            t("{\"a,b\",\"\"}"),
            t("1 day"),
            t("äöü€"),
            t("1010"),
            V::I(-7),
        ];
        let mut early = vec![V::N; 21];
        (early[0], early[2], early[3], early[4], early[5]) = (V::I(-2), V::I(-1), V::I(-62_135_596_800_000_000), V::I(-719_162), V::I(0));
        worker.write(vec![full, early]).await;
        let columns = ["a", "b at time zone 'UTC'", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t"];
        assert_eq!(
            world.rows(&columns, "FROM things WHERE id = 1").await,
            [format!(
                "67e55044-10b1-426f-9247-bb680e5fe0c8|2026-11-21 01:02:03.000004|2026-11-21 01:02:03|2026-11-21|01:02:03.000004|{digits}|{{\"a\": [1, null]}}|\
                 {{ \"b\":1.50}}|so-so|{{1,NULL,3}}|10.0.0.0/8|\\x0001|0.1|ab|12.50|{{\"a,b\",\"\"}}|1 day|äöü€|1010|-7"
            )]
        );
        let early = world.rows(&["b at time zone 'UTC'", "c", "d", "e"], "FROM things WHERE id = -2").await;
        assert_eq!(early, ["1969-12-31 23:59:59.999999|0001-01-01 00:00:00|0001-01-01|00:00:00"]);

        let bad = |position: usize, cell: V| {
            let mut row = vec![V::A; 21];
            row[0] = V::I(9);
            row[position] = cell;
            row
        };
        for (position, cell, reason) in [
            (0, V::I(40_000), "out-of-range"),
            (2, V::I(i64::MIN), "out-of-range"),
            (4, V::I(i64::MAX), "out-of-range"),
            (5, V::I(-1), "out-of-range"),
            (7, t("{secret"), "invalid-text"),
            (9, t("secret"), "invalid-text"),
            (14, t("secret"), "too-long"),
            (15, t("-1"), "check"),
            (15, t("123456789012.5"), "out-of-range"),
            (18, t("secret"), "too-long"),
            (19, t("10101"), "too-long"),
            (20, V::I(i64::MAX), "out-of-range"),
            (6, t("secret"), "invalid-text"),
            (8, t("\"\u{0}secret"), "invalid-text"),
        ] {
            let fault = worker.fails(vec![bad(position, cell)]).await;
            assert_eq!((fault.class, &*fault.reason), (FaultClass::Poison, reason), "column {position}: {fault:?}");
            assert!(!format!("{fault:?}").contains("secret"), "{fault:?}");
        }
        worker.write(vec![bad(18, t("fine"))]).await;
    })
    .await;
}

#[tokio::test]
async fn every_kind_of_sqlite() {
    world::on_sqlite(|world| async move {
        world.run("CREATE TABLE things (id INTEGER PRIMARY KEY, a UUID, b DATETIME, c DATE, d TIME, e DECIMAL(12,2), f JSON, g, h BLOB, i REAL, j TEXT)").await;
        let mut worker = world.worker("things", WriteMode::Upsert, Some("b")).await;
        let uuid = [0x11; 16];
        let row = |id: i64, at: i64| {
            vec![V::I(id), V::U(uuid), V::I(at), V::I(-1), V::I(1), t("12.50"), t("{\"a\":1}"), t("007"), V::Y(vec![1]), V::F(2.0), t("0123")]
        };
        worker.write(vec![row(1, INSTANT), row(2, -1)]).await;
        assert_eq!(
            world.rows(&["a", "b", "c", "d", "e", "f", "g", "hex(h)", "i", "j"], "FROM things WHERE id = 1").await,
            ["11111111-1111-1111-1111-111111111111|2026-11-21T01:02:03.000004Z|1969-12-31|00:00:00.000001|12.5|{\"a\":1}|007|01|2.0|0123"]
        );
        let types: Vec<String> = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"].iter().map(|name| format!("typeof({name})")).collect();
        let types: Vec<&str> = types.iter().map(String::as_str).collect();
        assert_eq!(world.rows(&types, "FROM things WHERE id = 2").await, ["text|text|text|text|real|text|text|blob|real|text"]);
        assert_eq!(worker.write(vec![row(1, INSTANT - 1), row(2, 0)]).await, 1, "times are ordered as texts");
        let mut bad = row(3, 1);
        bad[6] = t("12345678901234567890");
        assert_eq!(&*worker.fails(vec![bad]).await.reason, "not-exact");
        let mut bad = row(3, 1);
        bad[9] = V::F(f64::NAN);
        assert_eq!(&*worker.fails(vec![bad]).await.reason, "out-of-range");
        let keyless = worker
            .apply(&[(Operation::Write, {
                let mut row = row(3, 1);
                row[0] = V::N;
                row
            })])
            .await;
        assert!(matches!(keyless, Err(ApplyError::Failed(fault)) if fault.reason == "not-null" && fault.column.as_deref() == Some("id")));

        world.run("CREATE TABLE strict (id INTEGER PRIMARY KEY, a TEXT NOT NULL, b ANY, c INT) STRICT").await;
        let mut worker = world.worker("strict", WriteMode::Upsert, None).await;
        worker.write(vec![vec![V::I(1), t("1"), t("007"), V::I(i64::MIN)]]).await;
        assert_eq!(world.rows(&["a", "b", "typeof(b)", "c"], "FROM strict").await, ["1|007|text|-9223372036854775808"]);
    })
    .await;
}

#[tokio::test]
async fn every_kind_of_mysql() {
    world::on_mysql(every_kind).await;
}

#[tokio::test]
async fn every_kind_of_mariadb() {
    world::on_mariadb(every_kind).await;
}

async fn every_kind(world: World) {
    world
        .run(
            "CREATE TABLE things (id SMALLINT PRIMARY KEY, a BOOLEAN, b DATETIME(6), c TIMESTAMP(6) NULL, d DATE, e TIME(3), f DECIMAL(30,10), g JSON,
               h ENUM('sad', 'so-so'), i BLOB, j FLOAT, k VARCHAR(4), l BIT(9), m BIGINT UNSIGNED, n TINYINT UNSIGNED, o CHAR(5), p TINYTEXT, q SET('a', 'b'),
               r VARCHAR(9) CHARACTER SET latin1, s INT, t DOUBLE)",
        )
        .await;
    let mut worker = world.worker("things", WriteMode::Upsert, None).await;
    let full = vec![
        V::I(1),
        V::B(true),
        V::I(INSTANT),
        V::I(INSTANT),
        V::I(20_778),
        V::I(3_723_000_600),
        t("12345678901234567890.0123456789"),
        t("{\"a\": [1, null]}"),
        t("so-so"),
        V::Y(vec![0, 255]),
        V::F(0.1),
        t("äöü€"),
        V::I(257),
        t("18446744073709551615"),
        V::I(255),
        t("ab"),
        t(""),
        t("a,b"),
        t("äöü"),
        V::I(-7),
        V::F(0.1 + 0.2),
    ];
    let mut early = vec![V::N; 21];
    (early[0], early[2], early[4], early[5]) = (V::I(-2), V::I(-1), V::I(-719_162), V::I(0));
    worker.write(vec![full, early]).await;
    let columns = ["a", "b", "c", "d", "e", "f", "g", "h", "hex(i)", "j", "k", "l + 0", "m", "n", "o", "p", "q", "r", "s", "t"];
    assert_eq!(
        world.rows(&columns, "FROM things WHERE id = 1").await,
        ["1|2026-11-21 01:02:03.000004|2026-11-21 01:02:03.000004|2026-11-21|01:02:03.001|12345678901234567890.0123456789|{\"a\": [1, null]}|so-so|00FF|\
          0.1|äöü€|257|18446744073709551615|255|ab||a,b|äöü|-7|0.30000000000000004"]
    );
    assert_eq!(world.rows(&["b", "d", "e"], "FROM things WHERE id = -2").await, ["1969-12-31 23:59:59.999999|0001-01-01|00:00:00.000"]);
    let bad = |position: usize, cell: V| {
        let mut row = vec![V::A; 21];
        row[0] = V::I(9);
        row[position] = cell;
        row
    };
    for (position, cell, reason) in [
        (0, V::I(40_000), "out-of-range"),
        (2, V::I(i64::MIN), "out-of-range"),
        (3, V::I(-1), "invalid-text"),
        (4, V::I(i64::MAX), "out-of-range"),
        (6, t("secret"), "invalid-text"),
        (6, t("123456789012345678901234567890"), "out-of-range"),
        (8, t("secret"), "invalid-text"),
        (10, V::F(f64::NAN), "out-of-range"),
        (11, t("secret"), "too-long"),
        (13, t("-1"), "out-of-range"),
        (14, V::I(256), "out-of-range"),
        (15, t("secret"), "too-long"),
        (16, t(&"secret".repeat(50)), "too-long"),
        (17, t("secret"), "invalid-text"),
        (18, t("secret😀"), "invalid-text"),
        (19, V::I(i64::MAX), "out-of-range"),
    ] {
        let fault = worker.fails(vec![bad(position, cell)]).await;
        assert_eq!((fault.class, &*fault.reason), (FaultClass::Poison, reason), "column {position}: {fault:?}");
        assert!(!format!("{fault:?}").contains("secret"), "{fault:?}");
    }
    let fault = worker.fails(vec![bad(7, t("{secret"))]).await;
    assert_eq!(fault.class, FaultClass::Poison, "{fault:?}");
    assert!(!format!("{fault:?}").contains("secret"), "{fault:?}");
    worker.write(vec![bad(11, t("fine"))]).await;
}
