//! Precedence, names that are none, defaults, messages.

use super::*;

const MACHINE: Machine = Machine { memory_bytes: 2 << 30 };

fn pairs(given: &[(&str, &str)]) -> Vec<(String, String)> {
    given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn parse(flags: &[(&str, &str)], variables: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    Settings::parse(&pairs(flags), &pairs(variables), MACHINE)
}

fn message(flags: &[(&str, &str)], variables: &[(&str, &str)]) -> String {
    parse(flags, variables).unwrap_err().to_string()
}

#[test]
fn nothing_given_is_the_embedded_default() {
    let settings = parse(&[], &[]).unwrap();
    assert_eq!(
        settings.places,
        Places { order: Order::Directory("./kafscale-data".into()), objects: Objects::Directory }
    );
    assert_eq!(settings.flush_per_second, None);
    assert_eq!(settings.addresses.kafka[0].listen.to_string(), "127.0.0.1:9092");
    assert_eq!(settings.addresses.http.to_string(), "127.0.0.1:9093");
    assert_eq!(settings.addresses.kafka[0].advertised("127.0.0.1:4711".parse().unwrap()).to_string(), "127.0.0.1:4711");
    assert_eq!(settings.memory, Memory { budget_bytes: 512 << 20, cache_bytes: 256 << 20 });
    assert_eq!(settings.topics, Topics { auto_create: true, auto_create_partitions: 1 });
    assert_eq!(
        settings.log,
        Log {
            filter: LogFilter { level: LogLevel::Info, modules: vec![] },
            format: LogFormat::Text,
            slow_request: Some(Duration::from_secs(1))
        }
    );
}

#[test]
fn the_flag_wins_over_the_variable() {
    let variables = [("KAFSCALE_CACHE_BYTES", "1MiB"), ("KAFSCALE_BROKER_ADDR", "localhost:1"), ("PATH", "/bin")];
    let settings = parse(&[("cache", "2MiB")], &variables).unwrap();
    assert_eq!(settings.memory.cache_bytes, 2 << 20);
    assert_eq!(settings.addresses.kafka[0].listen.to_string(), "localhost:1");
    let advertised =
        parse(&[("advertise", "b.example:7")], &[("KAFSCALE_BROKER_HOST", "a.example"), ("KAFSCALE_BROKER_PORT", "1")]);
    let advertised = advertised.unwrap().addresses.kafka[0].advertised("127.0.0.1:9092".parse().unwrap());
    assert_eq!(advertised.to_string(), "b.example:7");
}

#[test]
fn host_and_port_may_come_as_the_reference_system_names_them() {
    let bound = "0.0.0.0:9092".parse().unwrap();
    let settings = parse(&[], &[("KAFSCALE_BROKER_ADDR", ":9092"), ("KAFSCALE_BROKER_HOST", "kafka.example")]).unwrap();
    assert_eq!(settings.addresses.kafka[0].listen.to_string(), "0.0.0.0:9092");
    assert_eq!(settings.addresses.kafka[0].advertised(bound).to_string(), "kafka.example:9092");
    let variables = [("KAFSCALE_BROKER_HOST", "kafka.example"), ("KAFSCALE_BROKER_PORT", "tcp://10.0.0.1:9092")];
    assert_eq!(parse(&[], &variables).unwrap().addresses.kafka[0].advertised(bound).port, 9092);
}

#[test]
fn an_unknown_name_is_an_error_that_names_the_nearest() {
    let m = message(&[], &[("KAFSCALE_CACHE_BYTE", "1")]);
    assert_eq!(m, "KAFSCALE_CACHE_BYTE is not a setting; the nearest one is KAFSCALE_CACHE_BYTES");
    assert!(message(&[], &[("KAFSCALE_CACHE", "1")]).ends_with("KAFSCALE_CACHE_BYTES"));
    let m = message(&[], &[("KAFSCALE_AUTOCREATE_TOPIC", "")]);
    assert!(m.ends_with("KAFSCALE_AUTO_CREATE_TOPICS"), "{m}");
    let m = message(&[("data-dri", "x")], &[]);
    assert_eq!(m, "--data-dri is not a setting; the nearest one is data-dir");
}

#[test]
fn what_kubernetes_injects_is_ignored() {
    parse(&[], &[("KAFSCALE_PORT", "tcp://10.0.0.1:9092"), ("KAFSCALE_SERVICE_HOST", "10.0.0.1")]).unwrap();
}

#[test]
fn a_message_names_the_setting_the_value_and_what_it_takes() {
    let m = message(&[("memory", "1MiB")], &[]);
    assert_eq!(m, "--memory=\"1MiB\" is not valid: it takes a number of bytes of at least 32MiB, such as 512MiB");
    let m = message(&[], &[("KAFSCALE_LOG_LEVEL", "loud")]);
    assert!(m.starts_with("KAFSCALE_LOG_LEVEL=\"loud\" is not valid: it takes error"), "{m}");
    for (name, value) in [
        ("KAFSCALE_BROKER_PORT", "0"),
        ("KAFSCALE_BROKER_HOST", "a b"),
        ("KAFSCALE_BROKER_ADDR", "127.0.0.1"),
        ("KAFSCALE_AUTO_CREATE_TOPICS", "maybe"),
        ("KAFSCALE_AUTO_CREATE_PARTITIONS", "0"),
        ("KAFSCALE_BROKER_ID", "-1"),
        ("KAFSCALE_CACHE_BYTES", "99999999999999999999"),
        ("KAFSCALE_CACHE_BYTES", "16777216TiB"),
        ("KAFSCALE_CACHE_BYTES", "1G"),
        ("KAFSCALE_SLOW_REQUEST_MS", "1s"),
        ("KAFSCALE_OFFSETS_RETENTION_MINUTES", "0"),
        ("KAFSCALE_OFFSETS_RETENTION_MINUTES", "2147483648"),
    ] {
        let m = message(&[], &[(name, value)]);
        assert!(m.starts_with(&format!("{name}={value:?}")), "{m}");
    }
}

#[test]
fn every_address_needs_one_that_clients_can_use() {
    let m = message(&[("listen", "0.0.0.0:9092")], &[]);
    assert!(m.starts_with("0.0.0.0:9092 means every address") && m.contains("--advertise"), "{m}");
    assert!(parse(&[("listen", "[::]:9092")], &[]).is_err());
    assert!(parse(&[("advertise", "0.0.0.0:1")], &[]).is_err());
    assert!(parse(&[("listen", "0.0.0.0:9092"), ("advertise", "[::1]:9092")], &[]).is_ok());
}

#[test]
fn an_empty_variable_is_not_set() {
    let settings = parse(&[], &[("KAFSCALE_BROKER_ID", ""), ("KAFSCALE_LOG_LEVEL", "")]).unwrap();
    assert_eq!(settings.broker_id, 0);
}

#[test]
fn every_default_in_the_table_is_valid_when_typed() {
    for setting in SETTINGS.iter().filter(|setting| !setting.default.is_empty()) {
        let typed = parse(&[(setting.flag, setting.default)], &[]).unwrap();
        assert_eq!(typed, parse(&[], &[]).unwrap(), "{}", setting.flag);
    }
}

#[test]
fn small_and_large_machines_get_bounded_defaults() {
    let of = |memory_bytes| Settings::parse(&[], &[], Machine { memory_bytes }).unwrap().memory;
    assert_eq!(of(0).budget_bytes, 32 << 20);
    assert_eq!(of(1 << 40), Memory { budget_bytes: 1 << 30, cache_bytes: 512 << 20 });
}

#[test]
fn several_listeners_have_names_and_an_address_each() {
    let bound = |port| std::net::SocketAddr::from(([0, 0, 0, 0], port));
    let listen = ("listen", "IN=0.0.0.0:9092,OUT=[::]:9094,SELF=127.0.0.1:0");
    let advertise = "OUT=my.example:19094,IN=[fd00::1]:9092";
    let told = |settings: Settings| -> Vec<String> {
        let told = |l: &KafkaListener| format!("{} {}", l.name, l.advertised(bound(4711)));
        settings.addresses.kafka.iter().map(told).collect()
    };
    let expected = ["IN [fd00::1]:9092", "OUT my.example:19094", "SELF 127.0.0.1:4711"];
    assert_eq!(told(parse(&[listen, ("advertise", advertise)], &[]).unwrap()), expected);
    assert_eq!(told(parse(&[listen], &[("KAFSCALE_ADVERTISE", advertise)]).unwrap()), expected);
    // The flag wins over both kinds of variables, and the list over the pair.
    let pair = [("KAFSCALE_BROKER_HOST", "other"), ("KAFSCALE_BROKER_PORT", "1")];
    assert_eq!(told(parse(&[listen, ("advertise", advertise)], &pair).unwrap()), expected);
    let one = [("KAFSCALE_ADVERTISE", "a.example:7"), pair[0]];
    assert_eq!(told(parse(&[], &one).unwrap()), ["PLAINTEXT a.example:7"]);
}

#[test]
fn each_listener_s_address_is_asked_for_by_its_name() {
    let listen = ("listen", "IN=127.0.0.1:9092,OUT=0.0.0.0:9094");
    let m = message(&[listen], &[]);
    assert!(m.starts_with("0.0.0.0:9094 means every address") && m.contains("--advertise OUT=HOST:PORT"), "{m}");
    let m = message(&[listen, ("advertise", "OTU=h:1")], &[]);
    assert!(m.starts_with("--advertise has an address for OTU, and the listeners are IN, OUT"), "{m}");
    let m = message(&[listen, ("advertise", "h:1")], &[]);
    assert!(m.starts_with("--advertise is for one listener, and there are 2"), "{m}");
    let m = message(&[listen], &[("KAFSCALE_BROKER_HOST", "h")]);
    assert!(m.starts_with("KAFSCALE_BROKER_HOST is for one listener, and there are 2"), "{m}");
    for wrong in ["OUT=0.0.0.0:1", "OUT=h:0", "h:0", "OUT=h:1,OUT=h:2"] {
        let m = message(&[listen, ("advertise", wrong)], &[]);
        assert!(m.starts_with(&format!("--advertise={wrong:?} is not valid")), "{m}");
    }
}

#[test]
fn log_levels_of_single_modules() {
    let text = "info,kafscale_broker::ledger=debug,kafscale_log=trace";
    let filter = parse(&[("log-level", text)], &[]).unwrap().log.filter;
    assert_eq!(filter.to_string(), text);
    assert_eq!(LogFilter::parse("WARNING").unwrap().to_string(), "warn");
    for wrong in [
        "",
        "loud",
        "info,debug",
        "info,",
        "a=b",
        "info,a=b",
        "a=info",
        "info,a b=debug",
        "info,::=debug",
        "info,=debug",
    ] {
        assert_eq!(LogFilter::parse(wrong), None, "{wrong:?}");
    }
}

#[test]
fn a_probe_finds_the_http_listener_from_the_same_machine() {
    let found = |value: &str| http_address(&[], &pairs(&[("KAFSCALE_METRICS_ADDR", value)])).unwrap().to_string();
    assert_eq!(found(""), "127.0.0.1:9093");
    assert_eq!(found(":80"), "127.0.0.1:80");
    assert_eq!(found("[::]:80"), "[::1]:80");
    assert_eq!(found("h.example:80"), "h.example:80");
}

const BUCKET: [(&str, &str); 3] =
    [("KAFSCALE_S3_REGION", "eu-north-1"), ("KAFSCALE_S3_ACCESS_KEY", "AK"), ("KAFSCALE_S3_SECRET_KEY", "hush")];

#[test]
fn records_in_a_bucket_and_the_journal_in_a_directory() {
    let flags = [("store", "s3://records/kafka"), ("journal", "file:///var/lib/journal")];
    let places = parse(&flags, &BUCKET).unwrap().places;
    assert_eq!(places.to_string(), "s3://records/kafka and /var/lib/journal");
    assert!(!format!("{places:?}").contains("hush"));
    let named = [
        ("KAFSCALE_S3_BUCKET", "records"),
        ("KAFSCALE_S3_NAMESPACE", "kafka"),
        ("KAFSCALE_JOURNAL", "file:///var/lib/journal"),
    ];
    assert_eq!(parse(&[], &[&named[..], &BUCKET[..]].concat()).unwrap().places, places);
}

#[test]
fn places_that_do_not_go_together_are_named() {
    let (store, journal, directory) = (("store", "s3://records"), ("journal", "file:///j"), ("data-dir", "d"));
    let etcd = ("journal", "etcd://h");
    for (flags, variables, words) in [
        (vec![store], &BUCKET[..], "nothing says where the journal's entries are: add --journal file:///DIR"),
        (vec![journal], &[], "nothing says where the records are: add --store s3://BUCKET/PREFIX"),
        (vec![store, directory], &BUCKET, "--store (KAFSCALE_STORE, KAFSCALE_S3_BUCKET) is there too"),
        (vec![journal, directory], &[], "--journal (KAFSCALE_JOURNAL, KAFSCALE_ETCD_ENDPOINTS) is there too"),
        (vec![store, journal], &[], "S3 region is missing"),
        (vec![store, ("journal", "j")], &BUCKET, "--journal=\"j\" is not valid: it takes file:///DIR"),
        (vec![("store", "records"), journal], &BUCKET, "does not begin with s3://"),
        (vec![], &BUCKET, "--s3-region (KAFSCALE_S3_REGION) is about a bucket, and none is named"),
        (vec![store, journal, ("s3-path-style", "maybe")], &BUCKET, "it takes true or false"),
        (vec![("read-store", "s3://copy")], &[], "--read-store (KAFSCALE_READ_STORE) is about a bucket"),
        (vec![store, journal, ("read-store", "copy")], &BUCKET, "does not begin with s3://"),
        (vec![("journal", "etcd://h:2379")], &[], "nothing says where the records are"),
        (vec![store, ("journal", "etcd://h:0")], &BUCKET, "--journal=\"etcd://h:0\" is not valid"),
        (vec![store, journal, ("etcd-ca", "f")], &BUCKET, "--etcd-ca (KAFSCALE_ETCD_CA) is about etcd"),
        (vec![store, etcd, ("etcd-cert", "f")], &BUCKET, "--etcd-cert needs --etcd-key"),
        (vec![store, ("journal", "etcd://https://h")], &BUCKET, "https:// before a member of etcd needs --etcd-ca"),
        (vec![store, etcd, ("etcd-username", "u")], &BUCKET, "--etcd-username needs --etcd-password"),
    ] {
        let m = message(&flags, variables);
        assert!(m.contains(words), "{m}");
    }
}

#[test]
fn records_in_a_bucket_and_the_journal_in_etcd() {
    let flags = [("store", "s3://records"), ("journal", "etcd://a:1,b/x"), ("identity", "pod"), ("rack", "z")];
    let secret = [("KAFSCALE_ETCD_USERNAME", "u"), ("KAFSCALE_ETCD_PASSWORD", "hushhush")];
    let settings = parse(&flags, &[&BUCKET[..], &secret[..]].concat()).unwrap();
    assert_eq!(settings.places.to_string(), "s3://records and etcd://a:1,b:2379/x");
    assert_eq!(settings.rack.as_deref(), Some("z"));
    assert!(!format!("{settings:?}").contains("hushhush"));
    let named = [("KAFSCALE_STORE", "s3://records"), ("KAFSCALE_ETCD_ENDPOINTS", "http://a:1,http://b:2379")];
    let places = parse(&[], &[&named[..], &BUCKET[..]].concat()).unwrap().places;
    assert_eq!(places.to_string(), "s3://records and etcd://a:1,b:2379/kafscale");
}
