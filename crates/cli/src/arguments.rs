//! The command line. The flags of `kafscale broker` are made from the table of settings, so that none can be missing
//! or mean something else here.

use std::sync::LazyLock;

use clap::{Arg, ArgMatches, Command};
use kafscale_broker::config::{SETTINGS, Setting};

/// Version and, where it is known, the commit.
pub(crate) const VERSION: &str = env!("BUILD_VERSION");
/// What it was built for.
const TARGET: &str = env!("BUILD_TARGET");

/// What `--version` says: the build, and the stored formats that it reads and writes.
static LONG_VERSION: LazyLock<String> =
    LazyLock::new(|| format!("{VERSION}\ntarget   {TARGET}\nformats  {}", kafscale_broker::config::formats()));

pub(crate) fn command() -> Command {
    Command::new("kafscale")
        .about("A streaming platform that speaks the Kafka protocol")
        .version(VERSION)
        .long_version(LONG_VERSION.as_str())
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("health")
                .about("Asks the broker of this machine whether it is ready; exits with 0 if it is")
                .args(SETTINGS.iter().filter(|setting| setting.flag == "http").map(argument)),
        )
        .subcommand(
            Command::new("broker")
                .about("Runs a broker, with its journal and its objects in one directory")
                .after_help("Each flag can also be given as the variable in brackets; the flag wins.")
                .args(SETTINGS.iter().map(argument)),
        )
}

fn argument(setting: &Setting) -> Arg {
    let default = match setting.default {
        "" => String::new(),
        value => format!(" [default: {value}]"),
    };
    let help = format!("{}{default} [{}]", setting.help, setting.variables.join(", "));
    Arg::new(setting.flag).long(setting.flag).value_name(setting.value).help(help)
}

/// The flags that were given, as the settings take them.
pub(crate) fn flags(given: &ArgMatches) -> Vec<(String, String)> {
    // A command has the settings that it needs; asking clap for another one would be a panic.
    let value = |flag: &str| {
        let value = given.try_get_one::<String>(flag).ok()??;
        Some((flag.to_owned(), value.clone()))
    };
    SETTINGS.iter().filter_map(|setting| value(setting.flag)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn flags_come_out_as_settings_take_them() {
        let matches = command().get_matches_from(["kafscale", "broker", "--listen", "h:1", "--cache=1MiB"]);
        let flags = flags(matches.subcommand_matches("broker").unwrap());
        let expected = [("listen", "h:1"), ("cache", "1MiB")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(flags, expected);
    }
}
