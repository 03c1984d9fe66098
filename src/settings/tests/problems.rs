use super::*;
#[test]
fn print() {
    println!("{}", refused("name: orders\nkafka: localhost:9092\ndatabase: ${DATABASE_URL}\nroutes: [ { topic: orders, tabel: public.orders } ]\n"));
}
