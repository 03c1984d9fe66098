//! Requests that no client would send: damaged batches, metadata that is not text.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(i16::try_from(bytes.len()).unwrap().to_be_bytes());
    out.extend(bytes);
}

fn request(brokers: &str, api: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(api.to_be_bytes());
    out.extend(version.to_be_bytes());
    out.extend(7_i32.to_be_bytes());
    text(&mut out, b"raw");
    out.extend(body);
    let mut stream = TcpStream::connect(brokers.split(',').next().unwrap()).unwrap();
    stream.write_all(&i32::try_from(out.len()).unwrap().to_be_bytes()).unwrap();
    stream.write_all(&out).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap()];
    stream.read_exact(&mut answer).unwrap();
    answer
}

/// Appends these bytes to partition 0, whatever they are.
pub(super) fn produce(brokers: &str, topic: &str, batches: &[u8]) {
    let mut body = Vec::new();
    body.extend((-1_i16).to_be_bytes()); // no transactional id
    body.extend((-1_i16).to_be_bytes()); // all replicas acknowledge
    body.extend(10_000_i32.to_be_bytes());
    body.extend(1_i32.to_be_bytes());
    text(&mut body, topic.as_bytes());
    body.extend(1_i32.to_be_bytes());
    body.extend(0_i32.to_be_bytes());
    body.extend(i32::try_from(batches.len()).unwrap().to_be_bytes());
    body.extend(batches);
    let answer = request(brokers, 0, 7, &body);
    // Correlation, topics, name, partitions, index.
    let error = 4 + 4 + 2 + topic.len() + 4 + 4;
    assert_eq!(answer[error..error + 2], [0, 0], "the batch is accepted");
}

/// Commits an offset of partition 0 as a tool of another would.
pub(super) fn commit(brokers: &str, group: &str, topic: &str, next: i64, metadata: &[u8]) {
    let mut body = Vec::new();
    text(&mut body, group.as_bytes());
    body.extend((-1_i32).to_be_bytes());
    text(&mut body, b"");
    body.extend((-1_i64).to_be_bytes());
    body.extend(1_i32.to_be_bytes());
    text(&mut body, topic.as_bytes());
    body.extend(1_i32.to_be_bytes());
    body.extend(0_i32.to_be_bytes());
    body.extend(next.to_be_bytes());
    text(&mut body, metadata);
    let answer = request(brokers, 8, 2, &body);
    assert_eq!(answer[answer.len() - 2..], [0, 0], "the commit is accepted");
}

/// A batch of ten records from this offset on, which says to hold `count`: so many offsets the mock gives it.
pub(super) fn batch(base: i64, count: i32) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(0_i16.to_be_bytes()); // attributes
    body.extend(9_i32.to_be_bytes()); // last offset
    body.extend(1_000_i64.to_be_bytes());
    body.extend(1_000_i64.to_be_bytes());
    body.extend((-1_i64).to_be_bytes()); // no producer
    body.extend((-1_i16).to_be_bytes());
    body.extend((-1_i32).to_be_bytes());
    body.extend(count.to_be_bytes());
    for number in 0..10_u8 {
        // Attributes, timestamp, offset, no key, a value of one byte, no headers; numbers are zigzag.
        let record = [0, 0, number * 2, 1, 2, b'x', 0];
        body.push(u8::try_from(record.len()).unwrap() * 2);
        body.extend(record);
    }
    let crc = crc32c(&body);
    let mut out = Vec::new();
    out.extend(base.to_be_bytes());
    out.extend(i32::try_from(body.len() + 9).unwrap().to_be_bytes());
    out.extend(0_i32.to_be_bytes()); // leader epoch
    out.push(2);
    out.extend(crc.to_be_bytes());
    out.extend(body);
    out
}

/// One record in the older format, whose checksum is wrong. (Behind a damaged batch of the present format librdkafka 2.12.1 goes on in the
/// wrong place and may abort, which loses nothing, but ends a test.)
pub(super) fn damaged(offset: i64) -> Vec<u8> {
    let mut body = vec![0, 0, 0, 1, 1, 0]; // checksum, format, attributes
    body.extend(1_000_i64.to_be_bytes());
    body.extend((-1_i32).to_be_bytes()); // no key
    body.extend(1_i32.to_be_bytes());
    body.push(b'x');
    let mut out = offset.to_be_bytes().to_vec();
    out.extend(i32::try_from(body.len()).unwrap().to_be_bytes());
    out.extend(body);
    out
}

fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}
