//! What whoever runs a server does with its database: export, backup, restore, inspect.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use clap::Args;
use syncline_core::server::Schema;
use syncline_protocol::EntityName;

use crate::cli::{Failure, check_exists, open_store, say};
use crate::export::{ExportFormat, export};
use crate::http::sync::now;
use crate::store::{Inspection, PolicyUse, backup, inspect, restore};

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The entity to export
    #[arg(long, value_name = "ENTITY")]
    entity: String,
    /// How to write the rows
    #[arg(long, value_enum, default_value = "ndjson")]
    format: ExportFormat,
    /// The file to write; standard output if there is none
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The database file
    #[arg(long, default_value = "syncline.db", value_name = "FILE")]
    db: PathBuf,
    /// The organisation the rows belong to
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct BackupArgs {
    /// The new file
    target: PathBuf,
    /// The database file
    #[arg(long, default_value = "syncline.db", value_name = "FILE")]
    db: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// The backup
    backup: PathBuf,
    /// The database file
    #[arg(long, default_value = "syncline.db", value_name = "FILE")]
    db: PathBuf,
    /// Replace a database that exists
    #[arg(long)]
    replace: bool,
}

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// The database file
    #[arg(long, default_value = "syncline.db", value_name = "FILE")]
    db: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) async fn export_rows(args: ExportArgs) -> Result<(), Failure> {
    let entity = EntityName::parse(args.entity)?;
    check_exists(&args.db)?;
    let to: Box<dyn Write + Send> = match &args.out {
        None => Box::new(io::stdout()),
        Some(path) => {
            let failed = |error| Failure(format!("cannot write {}: {error}", path.display()));
            Box::new(File::create_new(path).map_err(failed)?)
        }
    };
    let store = open_store(&args.db, Schema::open(), PolicyUse::Keep)?;
    let exported = export(&store, &entity, args.tenant.as_deref(), args.format, BufWriter::new(to)).await;
    store.shutdown().await;
    let count = exported?;
    if args.out.is_some() { say(format!("{count} rows exported")) } else { Ok(()) }
}

pub(super) fn backup_file(args: &BackupArgs) -> Result<(), Failure> {
    backup(&args.db, &args.target)?;
    say(format!("{} is a copy of {} as it was just now", args.target.display(), args.db.display()))
}

pub(super) fn restore_file(args: &RestoreArgs) -> Result<(), Failure> {
    restore(&args.backup, &args.db, args.replace)?;
    say(format!("{} is what {} was, with an epoch of its own", args.db.display(), args.backup.display()))
}

pub(super) fn inspect_file(args: &InspectArgs) -> Result<(), Failure> {
    check_exists(&args.db)?;
    let found = inspect(&args.db, now())?;
    if args.json {
        return say(serde_json::to_string_pretty(&found)?);
    }
    say(described(&found))
}

fn described(found: &Inspection) -> String {
    let listed = |counts: &std::collections::BTreeMap<String, u64>| {
        let parts: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
        if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
    };
    let mut lines = vec![
        format!("epoch {}, {} bytes", found.epoch, found.file_bytes),
        format!("server: {}", found.server.as_deref().unwrap_or("none runs")),
        format!("sessions: {}", listed(&found.sessions)),
    ];
    for (name, tenant) in &found.tenants {
        let name = if name.is_empty() { "no tenant".to_owned() } else { format!("tenant {name}") };
        lines.push(format!("{name}: log from {} to {}", tenant.floor + 1, tenant.head));
        lines.push(format!("  rows: {}; ids of deleted rows kept: {}", listed(&tenant.rows), tenant.deleted_rows));
        lines.push(format!("  outcomes: {}", listed(&tenant.outcomes)));
    }
    lines.join("\n")
}
