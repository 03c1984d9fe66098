//! How Redis is reached, and what is wrong with it.

use std::{path::PathBuf, time::Duration};

use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, TlsCertificates, cluster::ClusterClient};
use secrecy::{ExposeSecret, SecretString};

use crate::options::is_here;

/// `redis:` of a file, with its secrets read.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    pub servers: Servers,
    /// An ACL user. Overrides that of the URLs, at the data's servers; a sentinel has its own in its URL.
    pub username: Option<String>,
    /// Overrides that of the URLs, at the data's servers.
    pub password: Option<SecretString>,
    /// Certificates to trust, instead of the system's. Applies to `rediss://`.
    pub ca: Option<PathBuf>,
    /// What every key begins with.
    pub prefix: String,
    /// For how long an event is remembered after it was written.
    pub ttl: Duration,
    /// A server that evicts keys under pressure forgets events before their time, without a word: only on request.
    pub allow_eviction: bool,
    pub connect_limit: Duration,
    pub answer_limit: Duration,
}

/// Where Redis is. URLs may hold passwords, so they are never printed.
#[derive(Clone, Debug)]
pub enum Servers {
    /// `redis://user:password@host:6379/0`, or `rediss://` with TLS, always verified.
    Single(SecretString),
    /// The primary is whom the sentinels name, asked anew for every connection. With `rediss://` the primary speaks TLS too.
    Sentinel {
        sentinels: Vec<SecretString>,
        /// The name under which the sentinels watch it.
        primary: String,
        database: i64,
    },
    /// Some nodes of a Cluster; they name the others.
    Cluster(Vec<SecretString>),
}

impl RedisOptions {
    /// A new connection is a few round trips; what takes longer is a server that hangs, or a network that swallows packets.
    pub const CONNECT_LIMIT: Duration = Duration::from_secs(5);
    /// How long a server may be silent that was asked; for at most [`super::AT_ONCE`] small commands a healthy one takes milliseconds. Long enough for a
    /// fork or a slow command of somebody else, short enough that a failover is not slept through.
    pub const ANSWER_LIMIT: Duration = Duration::from_secs(2);
    /// Longer than Kafka keeps records by default, so that no replay of a topic outlives the marks.
    pub const TTL: Duration = Duration::from_secs(8 * 24 * 60 * 60);

    #[must_use]
    pub fn single(url: impl Into<String>) -> Self {
        Self::new(Servers::Single(SecretString::from(url.into())))
    }

    #[must_use]
    pub fn sentinel(sentinels: impl IntoIterator<Item = impl Into<String>>, primary: impl Into<String>) -> Self {
        Self::new(Servers::Sentinel { sentinels: secrets(sentinels), primary: primary.into(), database: 0 })
    }

    #[must_use]
    pub fn cluster(urls: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::new(Servers::Cluster(secrets(urls)))
    }

    fn new(servers: Servers) -> Self {
        Self {
            servers,
            username: None,
            password: None,
            ca: None,
            prefix: "oncesink".to_owned(),
            ttl: Self::TTL,
            allow_eviction: false,
            connect_limit: Self::CONNECT_LIMIT,
            answer_limit: Self::ANSWER_LIMIT,
        }
    }
}

fn secrets(urls: impl IntoIterator<Item = impl Into<String>>) -> Vec<SecretString> {
    urls.into_iter().map(|url| SecretString::from(url.into())).collect()
}

/// The settings name no Redis that can be opened. Never with a URL, which may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedisOptionsError {
    #[error("redis.{0} is not a valid address: write redis://user:password@host:6379/0, or rediss://… with TLS")]
    Url(&'static str),
    #[error("redis.{0} turns the verification of the server off; remove the part behind `#` and name the authority in redis.ca")]
    Insecure(&'static str),
    #[error("redis.{0} is empty; name at least one server")]
    NoServers(&'static str),
    #[error("redis.master is empty; write the name under which the sentinels watch the primary")]
    NoPrimary,
    #[error("the addresses in redis.{0} are partly redis:// and partly rediss://; write one of them throughout")]
    MixedTls(&'static str),
    #[error("a Redis Cluster has database 0 only; leave the number out of redis.cluster")]
    ClusterDatabase,
    #[error("redis.ca applies to rediss:// only; write rediss:// or leave it out")]
    CaWithoutTls,
    #[error("the file in redis.ca could not be used: {0}")]
    Ca(String),
    #[error("redis.prefix is empty; other users of the same Redis could then meet oncesink's keys")]
    Prefix,
    #[error("redis.ttl must be between 1 ms and 100 years")]
    Ttl,
}

/// What the options come to. Its parts hold passwords, so it has no `Debug`.
pub(super) enum Target {
    Single(Client),
    Sentinel(Sentinels),
    Cluster {
        client: Box<ClusterClient>,
        /// The same seeds one by one: a single node says why it refuses somebody, the cluster's client does not.
        seeds: Vec<Client>,
    },
}

pub(super) struct Sentinels {
    pub(super) sentinels: Vec<Client>,
    pub(super) primary: String,
    /// All of the primary's connection but its address.
    settings: Settings,
    tls: bool,
}

impl Sentinels {
    /// How the server is reached that a sentinel has named.
    pub(super) fn client(&self, host: String, port: u16) -> Result<Client, redis::RedisError> {
        let addr = if self.tls { ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None } } else { ConnectionAddr::Tcp(host, port) };
        let info = (String::new(), 0_u16).into_connection_info()?.set_addr(addr);
        self.settings.client(info)
    }
}

#[derive(Clone)]
struct Settings {
    username: Option<String>,
    password: Option<SecretString>,
    database: Option<i64>,
    ca: Option<Vec<u8>>,
}

impl Settings {
    fn applied(&self, info: ConnectionInfo) -> ConnectionInfo {
        let mut settings = quiet(&info);
        if let Some(username) = &self.username {
            settings = settings.set_username(username);
        }
        if let Some(password) = &self.password {
            settings = settings.set_password(password.expose_secret());
        }
        if let Some(database) = self.database {
            settings = settings.set_db(database);
        }
        info.set_redis_settings(settings)
    }

    fn client(&self, info: ConnectionInfo) -> Result<Client, redis::RedisError> {
        client(self.applied(info), self.ca.as_ref())
    }
}

/// A user with the least rights may not name the library at connect, and need not.
fn quiet(info: &ConnectionInfo) -> redis::RedisConnectionInfo {
    info.redis_settings().clone().set_skip_set_lib_name()
}

fn client(info: ConnectionInfo, ca: Option<&Vec<u8>>) -> Result<Client, redis::RedisError> {
    match ca.filter(|_| is_tls(&info)) {
        Some(ca) => Client::build_with_tls(info, certificates(ca)),
        None => Client::open(info),
    }
}

fn certificates(ca: &[u8]) -> TlsCertificates {
    TlsCertificates { client_tls: None, root_cert: Some(ca.to_vec()) }
}

fn is_tls(info: &ConnectionInfo) -> bool {
    matches!(info.addr(), ConnectionAddr::TcpTls { .. })
}

impl Target {
    /// Understands the options; connects to nothing, but reads `redis.ca`.
    pub(super) fn read(options: &RedisOptions) -> Result<Self, RedisOptionsError> {
        if options.prefix.is_empty() {
            return Err(RedisOptionsError::Prefix);
        }
        if options.ttl < Duration::from_millis(1) || options.ttl > Duration::from_secs(100 * 366 * 24 * 60 * 60) {
            return Err(RedisOptionsError::Ttl);
        }
        let ca = options.ca.as_ref().map(|path| std::fs::read(path).map_err(|error| RedisOptionsError::Ca(error.to_string()))).transpose()?;
        let settings = Settings { username: options.username.clone(), password: options.password.clone(), database: None, ca };
        // The URLs are understood by now: what is left to be refused are the certificates.
        let ca_problem = |_| RedisOptionsError::Ca("it holds no certificate in PEM".to_owned());
        match &options.servers {
            Servers::Single(url) => {
                let info = parse("url", url)?;
                needs_tls(&settings, &info)?;
                Ok(Self::Single(settings.client(info).map_err(ca_problem)?))
            }
            Servers::Sentinel { sentinels, primary, database } => {
                if primary.is_empty() {
                    return Err(RedisOptionsError::NoPrimary);
                }
                let (infos, tls) = parse_all("sentinels", sentinels)?;
                needs_tls(&settings, &infos[0])?;
                let settings = Settings { database: Some(*database), ..settings };
                let sentinels = infos.into_iter().map(|info| {
                    let own = quiet(&info);
                    client(info.set_redis_settings(own), settings.ca.as_ref()).map_err(ca_problem)
                });
                Ok(Self::Sentinel(Sentinels { sentinels: sentinels.collect::<Result<_, _>>()?, primary: primary.clone(), tls, settings }))
            }
            Servers::Cluster(urls) => {
                let (infos, tls) = parse_all("cluster", urls)?;
                needs_tls(&settings, &infos[0])?;
                if infos.iter().any(|info| info.redis_settings().db() != 0) {
                    return Err(RedisOptionsError::ClusterDatabase);
                }
                // One user for all nodes, those that are found later too: the first URL's, unless one is named.
                let settings = Settings {
                    username: settings.username.or_else(|| infos[0].redis_settings().username().map(str::to_owned)),
                    password: settings.password.or_else(|| infos[0].redis_settings().password().map(|password| SecretString::from(password.to_owned()))),
                    ..settings
                };
                let infos: Vec<ConnectionInfo> = infos.into_iter().map(|info| settings.applied(info)).collect();
                let mut builder = ClusterClient::builder(infos.clone())
                    .connection_timeout(options.connect_limit)
                    .response_timeout(options.answer_limit)
                    // Enough to follow a slot that moves. What lasts longer is the engine's to wait for, and to tell.
                    .retries(3)
                    .max_retry_wait(200)
                    .min_retry_wait(20);
                if let Some(ca) = settings.ca.as_ref().filter(|_| tls) {
                    builder = builder.certs(certificates(ca));
                }
                let client = Box::new(builder.build().map_err(ca_problem)?);
                let seeds = infos.into_iter().map(|info| settings.client(info).map_err(ca_problem)).collect::<Result<_, _>>()?;
                Ok(Self::Cluster { client, seeds })
            }
        }
    }

    /// Without credentials: `cache:6379/0`, `orders by sentinels a:26379, b:26379`.
    pub(super) fn address(&self) -> String {
        let all = |clients: &[Client]| clients.iter().map(|client| client.get_connection_info().addr().to_string()).collect::<Vec<_>>().join(", ");
        match self {
            Self::Single(client) => format!("{}/{}", client.get_connection_info().addr(), client.get_connection_info().redis_settings().db()),
            Self::Sentinel(sentinels) => format!("{} by sentinels {}", sentinels.primary, all(&sentinels.sentinels)),
            Self::Cluster { seeds, .. } => format!("cluster {}", all(seeds)),
        }
    }

    /// Whether somebody on the way could read along or answer in the server's place.
    pub(super) fn is_unprotected(&self) -> bool {
        let clients = match self {
            Self::Single(client) => std::slice::from_ref(client),
            Self::Sentinel(sentinels) => &sentinels.sentinels,
            Self::Cluster { seeds, .. } => seeds,
        };
        clients.iter().any(|client| matches!(client.get_connection_info().addr(), ConnectionAddr::Tcp(host, _) if !is_here(host)))
    }
}

fn needs_tls(settings: &Settings, info: &ConnectionInfo) -> Result<(), RedisOptionsError> {
    if settings.ca.is_some() && !is_tls(info) { Err(RedisOptionsError::CaWithoutTls) } else { Ok(()) }
}

fn parse(setting: &'static str, url: &SecretString) -> Result<ConnectionInfo, RedisOptionsError> {
    let url = url.expose_secret();
    if !url.starts_with("redis://") && !url.starts_with("rediss://") {
        return Err(RedisOptionsError::Url(setting));
    }
    // The driver's own message may quote a part of the URL.
    let info = url.into_connection_info().map_err(|_| RedisOptionsError::Url(setting))?;
    if matches!(info.addr(), ConnectionAddr::TcpTls { insecure: true, .. }) {
        return Err(RedisOptionsError::Insecure(setting));
    }
    Ok(info)
}

/// At least one, all with TLS or all without.
fn parse_all(setting: &'static str, urls: &[SecretString]) -> Result<(Vec<ConnectionInfo>, bool), RedisOptionsError> {
    let infos = urls.iter().map(|url| parse(setting, url)).collect::<Result<Vec<_>, _>>()?;
    let Some(tls) = infos.first().map(is_tls) else { return Err(RedisOptionsError::NoServers(setting)) };
    if infos.iter().any(|info| is_tls(info) != tls) {
        return Err(RedisOptionsError::MixedTls(setting));
    }
    Ok((infos, tls))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(options: RedisOptions) -> RedisOptionsError {
        Target::read(&options).map(|_| ()).unwrap_err()
    }

    #[test]
    fn each_kind_of_server_is_understood() {
        for (options, address) in [
            (RedisOptions::single("redis://cache"), "cache:6379/0"),
            (RedisOptions::single("rediss://app:secret@cache:7000/3"), "cache:7000/3"),
            (RedisOptions::sentinel(["redis://a:26379", "redis://b:26379"], "orders"), "orders by sentinels a:26379, b:26379"),
            (RedisOptions::cluster(["redis://app:secret@a:7000", "redis://b:7001"]), "cluster a:7000, b:7001"),
        ] {
            assert_eq!(Target::read(&options).ok().unwrap().address(), address);
        }
    }

    #[test]
    fn what_cannot_be_opened_says_what_to_do() {
        use RedisOptionsError::*;
        assert_eq!(problem(RedisOptions::single("http://cache")), Url("url"));
        assert_eq!(problem(RedisOptions::single("redis://cache/x")), Url("url"));
        assert_eq!(problem(RedisOptions::single("rediss://cache/#insecure")), Insecure("url"));
        assert_eq!(problem(RedisOptions::sentinel(["redis://a"], "")), NoPrimary);
        assert_eq!(problem(RedisOptions::sentinel(Vec::<String>::new(), "orders")), NoServers("sentinels"));
        assert_eq!(problem(RedisOptions::cluster(["redis://a", "rediss://b"])), MixedTls("cluster"));
        assert_eq!(problem(RedisOptions::cluster(["redis://a/1"])), ClusterDatabase);
        assert_eq!(problem(RedisOptions { prefix: String::new(), ..RedisOptions::single("redis://a") }), Prefix);
        assert_eq!(problem(RedisOptions { ttl: Duration::ZERO, ..RedisOptions::single("redis://a") }), Ttl);
        let with_ca = |url: &str| RedisOptions { ca: Some(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")), ..RedisOptions::single(url) };
        assert_eq!(problem(with_ca("redis://a")), CaWithoutTls);
    }

    #[test]
    fn passwords_are_never_printed() {
        let mut options = RedisOptions::single("redis://app:hunter2@cache:port");
        options.password = Some(SecretString::from("hunter2".to_owned()));
        let error = problem(options.clone());
        assert!(!format!("{options:?} {error:?} {error}").contains("hunter2"));
    }

    #[test]
    fn only_servers_of_this_machine_need_no_protection() {
        let is_unprotected = |url: &str| Target::read(&RedisOptions::single(url)).ok().unwrap().is_unprotected();
        assert!(is_unprotected("redis://cache"));
        assert!(!is_unprotected("rediss://cache") && !is_unprotected("redis://127.0.0.1"));
    }
}
