//! `oncesink skip`: leaves out one record at which its partition is halted.

use std::path::PathBuf;

use clap::Args;
use oncesink_sinks::{
    model::Coordinate,
    session::{Skip as Skipped, SkipMode},
};

use super::{
    connect::{Obstacle, person},
    exit::Exit,
    files::{self, Overrides},
    output,
};

#[derive(Debug, Args)]
pub struct Skip {
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The record, as in orders:3@88211
    #[arg(value_name = "COORDINATE")]
    coordinate: Coordinate,
    /// Does it; without this nothing is changed
    #[arg(long)]
    execute: bool,
    #[command(flatten)]
    overrides: Overrides,
}

pub async fn skip(arguments: &Skip) -> Result<Exit, Exit> {
    let pipeline = arguments.overrides.load_one(&arguments.file)?;
    let database = files::database(&pipeline.database)?;
    let coordinate = &arguments.coordinate;
    let mode = if arguments.execute { SkipMode::LeaveOut } else { SkipMode::Look };
    let answer = database.skip(&pipeline.name, coordinate, &person(), mode).await.map_err(|fault| output::obstacle(&Obstacle::from(fault)))?;
    match answer {
        Skipped::Done => {
            eprintln!("{coordinate} is left out; an audit row says by whom. A running worker goes on within half a minute.");
            Ok(Exit::Done)
        }
        Skipped::Possible { halt } => {
            eprintln!("{coordinate} is halted: {}: {}", halt.reason, halt.detail);
            eprintln!("Nothing was changed. To leave this record out: oncesink skip {} {coordinate} --execute", arguments.file.display());
            Ok(Exit::Done)
        }
        Skipped::NotHaltedThere { row } => {
            let why = match row {
                None => format!("{} has no checkpoint in pipeline {}", coordinate.partition, pipeline.name),
                Some(row) => match row.halt {
                    Some(halt) => format!("{} is halted at {}, not at {}", coordinate.partition, halt.offset, coordinate.offset),
                    None => format!("{} is not halted; its next offset is {}", coordinate.partition, row.next_offset),
                },
            };
            output::error(&format!("{why}; only the record at which a partition is halted can be left out, and nothing was changed"));
            Err(Exit::Failed)
        }
    }
}
