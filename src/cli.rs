//! The command line: what was typed, turned into settings and one call of the composition root.

mod account;
mod audit;
mod code;
mod defaults;
mod key;
mod noun;
mod provision;
mod quota;
mod referral;
mod reservation;
mod settings;
mod tariff;

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::{
    app::{self, client::Place, failure::Failure},
    config::{self, Loaded, layers::Sources},
};
use noun::{At, Noun};

const EXIT_CODES: &str = "\
Exit codes: 0 done; 2 wrong usage or configuration; 3 Redis or the database cannot be reached, or must not be used; \
4 another quotad runs on the data directory; 1 anything else.

Every setting of the file has an environment variable too: QUOTAD_ and its name in upper case. Flags win over \
variables, variables over the file. `quotad check-config` shows what is in force.";

#[derive(Debug, Parser)]
#[command(name = "quotad", version, about = "A quota sidecar for API gateways", after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serves gateways until SIGTERM or SIGINT.
    Serve(Flags),
    /// Judges the configuration and prints what is in force, and where each value comes from.
    CheckConfig(Flags),
    /// The price list.
    #[command(subcommand)]
    Tariff(Tariff),
    /// Accounts, and their money.
    Account(Noun<account::Account>),
    /// API keys of accounts.
    Key(Noun<key::Key>),
    /// Redemption codes.
    Code(Noun<code::Code>),
    /// What an account may spend on each platform.
    Quota(Noun<quota::Quota>),
    /// What new accounts begin with.
    Defaults(Noun<defaults::Defaults>),
    /// Makes an account with balance, quotas, first key and referral.
    Provision {
        #[command(flatten)]
        ask: provision::Ask,
        #[command(flatten)]
        at: At,
    },
    /// Who invited whom, and what that is worth.
    Referral(Noun<referral::Referral>),
    /// What is set at run time, for all sidecars.
    Settings(Noun<settings::Settings>),
    /// Who changed what.
    Audit(Noun<audit::Audit>),
    /// A reservation, live or settled, as Redis has it.
    Reservation(Noun<reservation::Reservation>),
    /// Compares Redis and the database with the ledger, in a running quotad.
    ///
    /// Exit codes: 0 no differences, or all are repaired; 1 differences; 2 wrong usage; 3 quotad cannot be reached.
    Reconcile {
        /// One account; absent: all.
        #[arg(long)]
        account: Option<String>,
        /// Mend what follows from the ledger or from the live holds.
        #[arg(long)]
        repair: bool,
        /// One JSON object per line.
        #[arg(long)]
        json: bool,
        /// Where the admin API is, http://host:port [default: as configured].
        #[arg(long, value_name = "URL")]
        url: Option<String>,
        /// File that holds the admin token [default: as configured, or <data>/admin.token].
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
        /// Who repairs, for the audit [default: admin].
        #[arg(long, value_name = "ID")]
        actor: Option<String>,
        #[command(flatten)]
        flags: Flags,
    },
    /// Prints the OpenAPI description of both listeners.
    Openapi,
    /// Prints the version.
    Version,
}

#[derive(Debug, Subcommand)]
pub enum Tariff {
    /// Stores a price list as the newest version; a running server takes it over by itself.
    Import {
        /// The public list, new-api's ratio settings or a list of our own, in JSON, also compressed (.json.gz).
        file: PathBuf,
        /// Read it and show the difference, but store nothing.
        #[arg(long)]
        dry_run: bool,
        /// Keep the models and groups that it does not name.
        #[arg(long)]
        merge: bool,
        /// The difference as JSON.
        #[arg(long)]
        json: bool,
        /// Who imports it, for the audit [default: command-line].
        #[arg(long, value_name = "ID")]
        actor: Option<String>,
        #[command(flatten)]
        flags: Flags,
    },
    /// Shows the newest version.
    List {
        /// Only models whose name contains this.
        #[arg(long, value_name = "SUBSTR")]
        model: Option<String>,
        /// As JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        flags: Flags,
    },
    /// The versions that a running quotad has, newest first.
    Versions {
        #[command(flatten)]
        ask: tariff::Versions,
        #[command(flatten)]
        at: At,
    },
    /// The models of a version with their prices, in units per million tokens, as a running quotad has them.
    Models {
        #[command(flatten)]
        ask: tariff::Models,
        #[command(flatten)]
        at: At,
    },
    /// Makes the prices of an older version the newest one, in a running quotad.
    Activate {
        #[command(flatten)]
        ask: tariff::Activate,
        #[command(flatten)]
        at: At,
    },
}

/// The settings that have a flag; README's table explains each.
#[derive(Args, Default)]
pub struct Flags {
    /// Configuration file (TOML).
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<String>,
    /// Directory for everything quotad keeps [default: ./data].
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<String>,
    /// Where gateways ask [default: 127.0.0.1:8787].
    #[arg(long, global = true, value_name = "ADDR")]
    gateway_listen: Option<String>,
    /// Unix socket that serves gateways as well.
    #[arg(long, global = true, value_name = "PATH")]
    gateway_socket: Option<String>,
    /// Admin API, metrics and health [default: 127.0.0.1:8788].
    #[arg(long, global = true, value_name = "ADDR")]
    admin_listen: Option<String>,
    /// A Redis to use instead of a private one.
    #[arg(long, global = true, value_name = "URL")]
    redis_url: Option<String>,
    /// The database: sqlite:, postgres: or mysql: [default: sqlite:<data>/quotad.db].
    #[arg(long, global = true, value_name = "URL")]
    database_url: Option<String>,
    /// Token that gateways must send. Others on this machine can see flags: prefer QUOTAD_GATEWAY_TOKEN.
    #[arg(long, global = true, value_name = "TOKEN")]
    gateway_token: Option<String>,
    /// Token of the admin API. Others on this machine can see flags: prefer QUOTAD_ADMIN_TOKEN.
    #[arg(long, global = true, value_name = "TOKEN")]
    admin_token: Option<String>,
    /// Create a demo account and print lines to try.
    #[arg(long, global = true)]
    demo: bool,
    /// Allow a public gateway address without a token.
    #[arg(long, global = true)]
    insecure: bool,
}

impl std::fmt::Debug for Flags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let given: Vec<&str> = self.given().into_iter().map(|(key, _)| key).collect();
        f.debug_tuple("Flags").field(&given).finish()
    }
}

impl Flags {
    /// Setting and value of each flag that was given.
    #[must_use]
    pub fn given(&self) -> Vec<(&'static str, String)> {
        let texts = [
            ("config", &self.config),
            ("data", &self.data),
            ("gateway_listen", &self.gateway_listen),
            ("gateway_socket", &self.gateway_socket),
            ("admin_listen", &self.admin_listen),
            ("redis_url", &self.redis_url),
            ("database_url", &self.database_url),
            ("gateway_token", &self.gateway_token),
            ("admin_token", &self.admin_token),
        ];
        let switches = [("demo", self.demo), ("insecure", self.insecure)];
        let texts = texts.into_iter().filter_map(|(key, text)| Some((key, text.clone()?)));
        let switches = switches.into_iter().filter(|(_, on)| *on).map(|(key, _)| (key, "true".to_owned()));
        texts.chain(switches).collect()
    }

    fn load(&self) -> Result<Loaded, Failure> {
        let sources = Sources::of_process(self.given()).map_err(|sentence| Failure::Config(vec![sentence]))?;
        config::load(&sources).map_err(Failure::Config)
    }
}

/// Runs what the process's arguments ask for.
#[must_use]
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match execute(&cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn execute(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Serve(flags) => app::serve(flags.load()?),
        Command::CheckConfig(flags) => {
            let loaded = flags.load()?;
            print(&config::report(&loaded.layers))?;
            for warning in loaded.warnings {
                eprintln!("warning: {warning}");
            }
            Ok(())
        }
        Command::Tariff(Tariff::Import { file, dry_run, merge, json, actor, flags }) => {
            let (dry_run, merge, json, actor) = (*dry_run, *merge, *json, actor.clone());
            let ask = app::tariffs::Import { dry_run, merge, json, actor };
            print(&app::tariffs::import(&flags.load()?.config, file, ask)?)
        }
        Command::Tariff(Tariff::List { model, json, flags }) => {
            print(&app::tariffs::list(&flags.load()?.config, model.as_deref(), *json)?)
        }
        Command::Reconcile { account, repair, json, url, token_file, actor, flags } => {
            let ask = app::reconcile::Ask {
                account: account.clone(),
                repair: *repair,
                json: *json,
                place: Place { url: url.clone(), token_file: token_file.clone(), actor: actor.clone() },
            };
            app::reconcile::run(&flags.load()?.config, &ask, print)
        }
        Command::Tariff(Tariff::Versions { ask, at }) => at.run(ask),
        Command::Tariff(Tariff::Models { ask, at }) => at.run(ask),
        Command::Tariff(Tariff::Activate { ask, at }) => at.run(ask),
        Command::Account(noun) => noun.run(),
        Command::Key(noun) => noun.run(),
        Command::Code(noun) => noun.run(),
        Command::Quota(noun) => noun.run(),
        Command::Defaults(noun) => noun.run(),
        Command::Provision { ask, at } => at.run(ask),
        Command::Referral(noun) => noun.run(),
        Command::Settings(noun) => noun.run(),
        Command::Audit(noun) => noun.run(),
        Command::Reservation(noun) => noun.run(),
        Command::Openapi => print(&app::openapi()),
        Command::Version => print(concat!("quotad ", env!("CARGO_PKG_VERSION"), "\n")),
    }
}

/// Writes to standard output; a reader that went away (`| head`) is no failure.
fn print(text: &str) -> Result<(), Failure> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::Other(error.to_string())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::SETTINGS;
    use clap::CommandFactory;

    #[test]
    fn every_flag_sets_its_setting() {
        let mut arguments = vec!["quotad".to_owned(), "serve".to_owned()];
        for setting in SETTINGS.iter().filter(|setting| setting.has_flag) {
            let flag = setting.flag().unwrap();
            match setting.default {
                "false" => arguments.push(flag),
                _ => arguments.push(format!("{flag}=x-{}", setting.key)),
            }
        }
        let cli = Cli::try_parse_from(arguments).unwrap();
        let Command::Serve(flags) = cli.command else { panic!("serve") };
        let given = flags.given();
        assert_eq!(given.len(), SETTINGS.iter().filter(|setting| setting.has_flag).count());
        for (key, value) in given {
            assert!(value == "true" || value == format!("x-{key}"), "{key} = {value}");
        }
        assert!(!format!("{flags:?}").contains("x-"), "flags may be secrets");
    }

    /// A positional `json` once hid the flag that every verb has, and the command panicked.
    #[test]
    fn no_argument_of_a_verb_has_the_name_of_one_that_all_have() {
        fn look(command: &clap::Command, mut global: Vec<clap::Id>) {
            for argument in command.get_arguments() {
                let name = argument.get_id();
                assert!(!global.contains(name), "{}: `{name}` is there twice", command.get_name());
            }
            global.extend(command.get_arguments().filter(|a| a.is_global_set()).map(|a| a.get_id().clone()));
            command.get_subcommands().for_each(|verb| look(verb, global.clone()));
        }
        // Not built: building puts the global ones into every verb.
        look(&Cli::command(), Vec::new());
    }

    #[test]
    fn the_help_stands_and_names_the_exit_codes() {
        Cli::command().debug_assert();
        let help = Cli::command().render_help().to_string();
        assert!(help.contains("Exit codes: 0 done; 2 wrong usage"), "{help}");
        assert_eq!(Cli::try_parse_from(["quotad", "serve", "--prot", "1"]).unwrap_err().exit_code(), 2);
    }
}
