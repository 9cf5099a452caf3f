//! The command line. The flags of `kafscale broker` are made from the table of settings, so that none can be missing
//! or mean something else here.

use clap::{Arg, ArgMatches, Command};
use kafscale_broker::config::SETTINGS;

/// Version and, where it is known, the commit.
pub(crate) const VERSION: &str = env!("BUILD_VERSION");

pub(crate) fn command() -> Command {
    Command::new("kafscale")
        .about("A streaming platform that speaks the Kafka protocol")
        .version(VERSION)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("broker")
                .about("Runs a broker, with its journal and its objects in one directory")
                .after_help("Each flag can also be given as the variable in brackets; the flag wins.")
                .args(SETTINGS.iter().map(|setting| {
                    let default = match setting.default {
                        "" => String::new(),
                        value => format!(" [default: {value}]"),
                    };
                    Arg::new(setting.flag).long(setting.flag).value_name(setting.value).help(format!(
                        "{}{default} [{}]",
                        setting.help,
                        setting.variables.join(", ")
                    ))
                })),
        )
}

/// The flags that were given, as the settings take them.
pub(crate) fn flags(given: &ArgMatches) -> Vec<(String, String)> {
    let value = |flag: &str| given.get_one::<String>(flag).map(|value| (flag.to_owned(), value.clone()));
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
