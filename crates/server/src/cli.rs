//! The command line: `syncline dev`, `serve`, and what there is to do with a database. `docs/server.md` is its reference.

mod upkeep;

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use syncline_core::server::Schema;
use syncline_protocol::EntityName;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::backend::{Backend, BackendTables};
use crate::cli::upkeep::{BackupArgs, ExportArgs, InspectArgs, RestoreArgs};
use crate::import::{Progress, import};
use crate::jwt::{AuthTable, JwtVerifier};
use crate::manifest::Manifest;
use crate::origin::origin_of;
use crate::store::{LogRetention, PolicyUse, ServerLock, SessionKind, Store, StoreOptions};
use crate::{Mode, Server, ServerOptions, StaticFiles};

/// The server of Syncline: HTTP, WebSocket and the change log on one SQLite file.
#[derive(Debug, Parser)]
#[command(name = "syncline", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// For development on this machine: sessions for the asking, and an open schema unless a manifest is given
    Dev(DevArgs),
    /// For production: what the manifest says and nothing else
    Serve(ServeArgs),
    /// Stores the rows of a file, all or none: a JSON array, one JSON object a line, or CSV
    Import(ImportArgs),
    /// Writes the rows of an entity as one JSON object a line, or as CSV
    Export(ExportArgs),
    /// Copies the database to a new file, also while a server runs
    Backup(BackupArgs),
    /// Puts a backup in the place of the database; every replica then starts afresh
    Restore(RestoreArgs),
    /// Shows what a database holds and who serves it
    Inspect(InspectArgs),
    /// Issues a session's token for `serve` and prints it
    Token(TokenArgs),
}

#[derive(Debug, Args)]
struct ListenArgs {
    /// The database file; made if there is none
    #[arg(long, default_value = "syncline.db", value_name = "FILE")]
    db: PathBuf,
    /// Where to listen; port 0 picks a free one
    #[arg(long, default_value = "127.0.0.1:4321", value_name = "IP:PORT")]
    addr: SocketAddr,
    /// A folder of files to serve beside the API
    #[arg(long = "static", value_name = "DIR")]
    static_dir: Option<PathBuf>,
    /// One more origin whose pages may call the server; may be repeated
    #[arg(long = "allow-origin", value_name = "ORIGIN")]
    allow_origin: Vec<String>,
}

#[derive(Debug, Args)]
struct DevArgs {
    #[command(flatten)]
    listen: ListenArgs,
    /// Entities, fields and policies; without one any entity and any row is taken
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Serve the files cross-origin isolated, for precise clocks in measurements
    #[arg(long)]
    cross_origin_isolated: bool,
    /// One more origin that the served pages may call; may be repeated
    #[arg(long = "allow-connect", value_name = "ORIGIN", value_parser = origin)]
    allow_connect: Vec<String>,
}

#[derive(Debug, Args)]
struct ServeArgs {
    #[command(flatten)]
    listen: ListenArgs,
    /// Entities, fields, policies and the server's settings
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
}

#[derive(Debug, Args)]
struct ImportArgs {
    /// The file of rows; CSV ends in .csv, or in .tsv with tabs
    file: PathBuf,
    /// The entity they are of
    #[arg(long, value_name = "ENTITY")]
    entity: String,
    /// The database file; made if there is none
    #[arg(long, default_value = "syncline.db", value_name = "FILE")]
    db: PathBuf,
    /// The manifest the database is served with; without one any row is taken
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// The organisation the rows belong to
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
}

#[derive(Debug, Args)]
struct TokenArgs {
    /// The database file of the server the token is for
    #[arg(long, value_name = "FILE")]
    db: PathBuf,
    /// Whose token
    #[arg(long, value_name = "ID")]
    user: String,
    /// The organisation the session begins in
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    /// How long it is good for
    #[arg(long, default_value = "30")]
    days: NonZeroU32,
}

/// Calls a minute that `serve` allows when the manifest says nothing: far above what a client does, far below a flood.
const REQUESTS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(6_000).unwrap();
/// How long the number of sockets in the lock file may be old.
const DESCRIBE_PAUSE: Duration = Duration::from_secs(1);
/// Longest life of an issued token, in days.
const TOKEN_DAYS_MAX: u32 = 3_650;

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let wanted = std::env::var("SYNCLINE_LOG").ok().and_then(|text| text.parse().ok());
    let levels = wanted.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    tracing_subscriber::registry().with(tracing_subscriber::fmt::layer().with_writer(io::stderr)).with(levels).init();
    match execute(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(sentence)) => {
            let _ = writeln!(io::stderr(), "syncline: {sentence}");
            ExitCode::from(2)
        }
    }
}

/// What the user is told when a command does nothing.
#[derive(Debug)]
struct Failure(String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

fn execute(command: Command) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Dev(args) => dev(args).await,
            Command::Serve(args) => serve(args).await,
            Command::Import(args) => import_file(args).await,
            Command::Export(args) => upkeep::export_rows(args).await,
            Command::Backup(args) => upkeep::backup_file(&args),
            Command::Restore(args) => upkeep::restore_file(&args),
            Command::Inspect(args) => upkeep::inspect_file(&args),
            Command::Token(args) => token(args).await,
        }
    })
}

async fn dev(args: DevArgs) -> Result<(), Failure> {
    let (schema, log, jwt, backend) = match &args.manifest {
        Some(path) => {
            let Manifest { schema, log, auth, backend, server: _ } = load_manifest(path)?;
            (schema, log, load_keys(auth.as_ref(), path)?, load_backend(&backend, path)?)
        }
        None => (Schema::open(), LogRetention::default(), None, None),
    };
    let what = match &args.manifest {
        Some(path) => format!("the entities and policies of {}", path.display()),
        None => "any entity and any row, readable and writable by everybody who asks".to_owned(),
    };
    let options = ServerOptions {
        allowed_origins: args.listen.allow_origin.clone(),
        log,
        jwt,
        backend,
        files: StaticFiles {
            directory: args.listen.static_dir.clone(),
            cross_origin_isolated: args.cross_origin_isolated,
            connect: args.allow_connect.clone(),
        },
        ..ServerOptions::dev(args.listen.addr)
    };
    let notice = format!(
        "development mode: {what}; sessions for the asking; this machine only, pages of localhost only. Not for production: `syncline serve` is."
    );
    listen(&args.listen, options, schema, &notice).await
}

async fn serve(args: ServeArgs) -> Result<(), Failure> {
    let Manifest { server, auth, backend, log, schema } = load_manifest(&args.manifest)?;
    let jwt = load_keys(auth.as_ref(), &args.manifest)?;
    let backend = load_backend(&backend, &args.manifest)?;
    let mut allowed_origins = server.allowed_origins;
    if let Some(url) = server.public_url {
        let origin =
            origin_of(&url).ok_or_else(|| Failure(format!("public_url {url:?} is no address like https://app.example")))?;
        allowed_origins.push(origin);
    }
    allowed_origins.extend(args.listen.allow_origin.iter().cloned());
    let pages = if allowed_origins.is_empty() { "no page of any origin".to_owned() } else { allowed_origins.join(", ") };
    let guests = if server.guests { "guests are admitted" } else { "no guests" };
    let tokens = if jwt.is_some() { "`syncline token` and of [auth]" } else { "`syncline token`" };
    let notice = format!("open to {pages}; to tokens of {tokens}; {guests}; policies of {}", args.manifest.display());
    let options = ServerOptions {
        mode: Mode::Serve,
        address: args.listen.addr,
        allowed_origins,
        guests: server.guests,
        jwt,
        backend,
        behind_proxy: server.behind_proxy,
        requests_per_minute: Some(server.requests_per_minute.unwrap_or(REQUESTS_PER_MINUTE)),
        log,
        files: StaticFiles { directory: args.listen.static_dir.clone(), ..StaticFiles::default() },
    };
    listen(&args.listen, options, schema, &notice).await
}

async fn listen(args: &ListenArgs, options: ServerOptions, schema: Schema, notice: &str) -> Result<(), Failure> {
    if let Some(directory) = args.static_dir.as_ref().filter(|directory| !directory.is_dir()) {
        return Err(Failure(format!("there is no folder {} to serve files from", directory.display())));
    }
    let mut lock = ServerLock::take(&args.db)
        .map_err(|error| Failure(format!("cannot open the database {}: {error}", args.db.display())))?;
    let store = open_store(&args.db, schema, PolicyUse::Adopt)?;
    let server = Server::start(options, store).await?;
    let sockets = server.watch_sockets();
    let address = server.address();
    let described = tokio::spawn(async move { describe_holder(&mut lock, address, sockets).await });
    say(format!("listening on http://{}", server.address()))?;
    say(format!("database {}", args.db.display()))?;
    say(notice)?;
    until_signal().await?;
    say("ending: closing sockets, finishing writes")?;
    server.stop().await;
    // The database is free only now that nothing of it is open.
    described.abort();
    Ok(())
}

/// Keeps what stands in the lock file true, for `syncline inspect`; ends with the server.
async fn describe_holder(lock: &mut ServerLock, address: SocketAddr, mut sockets: tokio::sync::watch::Receiver<usize>) {
    loop {
        let open = *sockets.borrow_and_update();
        if let Err(error) = lock.describe(&format!("http://{address}, {open} sockets open")) {
            tracing::debug!(%error, "the lock file could not be written");
        }
        tokio::time::sleep(DESCRIBE_PAUSE).await;
        if sockets.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn import_file(args: ImportArgs) -> Result<(), Failure> {
    let entity = EntityName::parse(args.entity)?;
    let store = match &args.manifest {
        Some(path) => open_store(&args.db, load_manifest(path)?.schema, PolicyUse::Adopt)?,
        None => open_store(&args.db, Schema::open(), PolicyUse::Keep)?,
    };
    let progress = Progress::default();
    let importing = import(&store, &args.file, &entity, args.tenant.as_deref(), progress.clone());
    let report = tokio::select! {
        report = importing => report,
        never = show_progress(&progress) => match never {},
    };
    store.shutdown().await;
    say(report?)
}

/// Says on stderr how far an import is: over and over on one line of a terminal, now and then in a log.
async fn show_progress(progress: &Progress) -> std::convert::Infallible {
    let is_terminal = io::stderr().is_terminal();
    let pause = if is_terminal { Duration::from_millis(200) } else { Duration::from_secs(5) };
    loop {
        tokio::time::sleep(pause).await;
        let percent = progress.percent().unwrap_or_default();
        let end = if is_terminal { "\r" } else { "\n" };
        // Nobody reading is no reason to stop.
        let _ = write!(io::stderr(), "{} rows, {percent} % of the file{end}", progress.rows());
    }
}

async fn token(args: TokenArgs) -> Result<(), Failure> {
    if args.user.is_empty() {
        return Err(Failure("--user is empty".to_owned()));
    }
    check_exists(&args.db)?;
    let store = open_store(&args.db, Schema::open(), PolicyUse::Keep)?;
    let age = Duration::from_hours(24) * args.days.get().min(TOKEN_DAYS_MAX);
    let token = store.create_session(&args.user, SessionKind::Issued, age).await?;
    if let Some(tenant) = &args.tenant {
        store.select_tenant(&token, Some(tenant)).await?;
    }
    store.shutdown().await;
    say(&token)
}

/// An origin as it may stand in a policy: nothing that would end the directive it stands in.
fn origin(text: &str) -> Result<String, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]/".contains(&byte));
    match origin_of(text).filter(|origin| plain && origin == text) {
        Some(origin) => Ok(origin),
        None => Err("an origin looks like http://127.0.0.1:5000, without a path".to_owned()),
    }
}

fn check_exists(db: &Path) -> Result<(), Failure> {
    if db.exists() {
        return Ok(());
    }
    Err(Failure(format!("there is no database {}; start `syncline serve` once, or check the path", db.display())))
}

fn load_manifest(path: &Path) -> Result<Manifest, Failure> {
    Manifest::load(path).map_err(|error| Failure(format!("the manifest {} is not right: {error}", path.display())))
}

/// Reads the keys of `[auth]`; its files lie beside the manifest.
fn load_keys(table: Option<&AuthTable>, manifest: &Path) -> Result<Option<Arc<JwtVerifier>>, Failure> {
    let folder = manifest.parent().unwrap_or(Path::new(""));
    let variable = |name: &str| std::env::var(name).ok();
    Ok(table.map(|table| JwtVerifier::load(table, folder, variable)).transpose()?.map(Arc::new))
}

/// Reads what the manifest says of the application's backend; its files lie beside the manifest.
fn load_backend(tables: &BackendTables, manifest: &Path) -> Result<Option<Arc<Backend>>, Failure> {
    let folder = manifest.parent().unwrap_or(Path::new(""));
    Ok(Backend::load(tables, folder, |name| std::env::var(name).ok())?.map(Arc::new))
}

fn open_store(path: &Path, schema: Schema, policies: PolicyUse) -> Result<Store, Failure> {
    Store::open(path, schema, StoreOptions { policies, ..StoreOptions::default() })
        .map_err(|error| Failure(format!("cannot open the database {}: {error}", path.display())))
}

/// Prints a line at once, also into a pipe: whoever started the server waits for the address.
fn say(line: impl fmt::Display) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

#[cfg(unix)]
async fn until_signal() -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    Ok(())
}

#[cfg(not(unix))]
async fn until_signal() -> Result<(), Failure> {
    Ok(tokio::signal::ctrl_c().await?)
}
