//! What the environment and the files of the AWS tools say: which credentials, which region, which endpoint.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::{Context, Environment};
use super::ini::{self, Sections};
use super::{CredentialError, read_file, warn_if_open_to_others};

/// An access key. It is printed nowhere.
#[derive(Clone, PartialEq, Eq)]
pub(in super::super) struct Keys {
    pub(in super::super) id: String,
    pub(in super::super) secret: String,
    pub(in super::super) token: Option<String>,
}

impl Keys {
    /// Checks what a header can carry: a line break that came along with a paste would end the program otherwise.
    pub(super) fn new(
        id: &str,
        secret: &str,
        token: Option<&str>,
        from: &str,
    ) -> Result<Self, CredentialError> {
        let is_plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        let parts =
            [("access key id", Some(id)), ("secret access key", Some(secret)), ("session token", token)];
        for (what, text) in parts {
            if text.is_some_and(|text| !is_plain(text)) {
                return Err(CredentialError::permanent(format!(
                    "{from}: the {what} is empty or has characters that no key has"
                )));
            }
        }
        Ok(Self { id: id.to_owned(), secret: secret.to_owned(), token: token.map(str::to_owned) })
    }
}

/// How to come to credentials.
pub(in super::super) enum Plan {
    /// They are known.
    Keys(Keys),
    /// A program prints them.
    Process { command: String, profile: String },
    /// A role is assumed with others.
    Role(Box<Role>),
    /// A role is assumed with a token in a file.
    WebIdentity { token_file: String, role_arn: String, session_name: Option<String> },
    /// The container's.
    Container,
    /// The machine's.
    Instance,
}

/// A role to assume.
pub(in super::super) struct Role {
    pub(super) arn: String,
    pub(super) session_name: Option<String>,
    pub(super) external_id: Option<String>,
    pub(super) duration_seconds: Option<String>,
    pub(super) base: Plan,
}

/// The two files, and which profile of them is meant.
pub(in super::super) struct Profiles {
    config: Sections,
    credentials: Sections,
    /// The name of the profile, and whether it was asked for.
    name: String,
    is_asked_for: bool,
}

impl Profiles {
    /// Reads both files; one that is not there is empty.
    pub(in super::super) fn read(context: &Context) -> Result<Self, CredentialError> {
        let environment = &context.environment;
        let sections = |variable: &str, name: &str| {
            let Some(path) = file_path(environment, variable, name) else { return Ok(Sections::new()) };
            let Some(text) = read_file(context, &path)? else { return Ok(Sections::new()) };
            let sections = ini::parse(&text)
                .map_err(|fault| CredentialError::permanent(format!("{}: {fault}", path.display())))?;
            if sections.values().any(|settings| settings.contains_key("aws_secret_access_key")) {
                warn_if_open_to_others(context, &path);
            }
            Ok(sections)
        };
        let asked_for = environment.first(&["AWS_PROFILE", "AWS_DEFAULT_PROFILE"]);
        Ok(Self {
            config: sections("AWS_CONFIG_FILE", "config")?,
            credentials: sections("AWS_SHARED_CREDENTIALS_FILE", "credentials")?,
            name: asked_for.unwrap_or("default").to_owned(),
            is_asked_for: asked_for.is_some(),
        })
    }

    fn config_of(&self, name: &str) -> Option<&BTreeMap<String, String>> {
        let plain = || (name == "default").then(|| self.config.get("default")).flatten();
        self.config.get(&format!("profile {name}")).or_else(plain)
    }

    fn has(&self, name: &str) -> bool {
        self.config_of(name).is_some() || self.credentials.contains_key(name)
    }

    /// A setting of a profile, from whichever file has it.
    fn setting_of(&self, name: &str, key: &str) -> Option<&str> {
        let found = self.credentials.get(name).and_then(|settings| settings.get(key));
        let found = found.or_else(|| self.config_of(name)?.get(key));
        found.map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A setting of the profile that is meant.
    pub(in super::super) fn setting(&self, key: &str) -> Option<&str> {
        self.setting_of(&self.name, key)
    }

    /// The endpoint for a service that the profile names, by itself or in its `[services NAME]`.
    pub(in super::super) fn endpoint(&self, service: &str) -> Option<&str> {
        let named = self.setting("services").and_then(|name| self.config.get(&format!("services {name}")));
        let of_service = named.and_then(|settings| settings.get(&format!("{service}.endpoint_url")));
        of_service.map(String::as_str).or_else(|| self.setting("endpoint_url"))
    }

    /// How to come to credentials.
    pub(in super::super) fn plan(&self, environment: &Environment) -> Result<Plan, CredentialError> {
        if let Some(keys) = environment_keys(environment)? {
            return Ok(Plan::Keys(keys));
        }
        let variable = |name: &str| environment.get(name).map(str::to_owned);
        if let (Some(token_file), Some(role_arn)) =
            (variable("AWS_WEB_IDENTITY_TOKEN_FILE"), variable("AWS_ROLE_ARN"))
        {
            return Ok(Plan::WebIdentity {
                token_file,
                role_arn,
                session_name: variable("AWS_ROLE_SESSION_NAME"),
            });
        }
        if self.is_asked_for && !self.has(&self.name) {
            return Err(CredentialError::permanent(format!(
                "profile `{}` is neither in {} nor in {}",
                self.name,
                shown_path(environment, "AWS_CONFIG_FILE", "config"),
                shown_path(environment, "AWS_SHARED_CREDENTIALS_FILE", "credentials")
            )));
        }
        if let Some(plan) = self.plan_of(&self.name, environment, &mut Vec::new())? {
            return Ok(plan);
        }
        if self.is_asked_for {
            return Err(CredentialError::permanent(format!("profile `{}` has no credentials", self.name)));
        }
        let in_container = ["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"];
        if environment.first(&in_container).is_some() {
            return Ok(Plan::Container);
        }
        if environment.is_on("AWS_EC2_METADATA_DISABLED") {
            return Err(CredentialError::permanent(NOTHING));
        }
        Ok(Plan::Instance)
    }

    /// What a profile says, where it says anything.
    fn plan_of(
        &self,
        name: &str,
        environment: &Environment,
        visited: &mut Vec<String>,
    ) -> Result<Option<Plan>, CredentialError> {
        let wrong = |what: String| CredentialError::permanent(format!("profile `{name}`: {what}"));
        let setting = |key: &str| self.setting_of(name, key).map(str::to_owned);
        let keys = self.keys_of(name)?;
        // A profile may be its own source, by its keys.
        let is_again = visited.iter().any(|seen| seen == name);
        if is_again {
            return match keys {
                Some(keys) => Ok(Some(Plan::Keys(keys))),
                None => Err(wrong("it is its own source_profile".to_owned())),
            };
        }
        visited.push(name.to_owned());
        if let Some(arn) = setting("role_arn") {
            if setting("mfa_serial").is_some() {
                return Err(wrong(
                    "a role with an mfa_serial asks for a code, and nobody is there to type it".to_owned(),
                ));
            }
            let session_name = setting("role_session_name");
            if let Some(token_file) = setting("web_identity_token_file") {
                return Ok(Some(Plan::WebIdentity { token_file, role_arn: arn, session_name }));
            }
            let base = match (setting("source_profile"), setting("credential_source").as_deref()) {
                (Some(source), _) => {
                    if !self.has(&source) {
                        return Err(wrong(format!("its source_profile `{source}` is not there")));
                    }
                    let plan = self.plan_of(&source, environment, visited)?;
                    plan.ok_or_else(|| wrong(format!("its source_profile `{source}` has no credentials")))?
                }
                (None, Some("Environment")) => {
                    Plan::Keys(environment_keys(environment)?.ok_or_else(|| {
                        wrong("its credential_source is the environment, and no key is there".to_owned())
                    })?)
                }
                (None, Some("EcsContainer")) => Plan::Container,
                (None, Some("Ec2InstanceMetadata")) => Plan::Instance,
                (None, Some(other)) => {
                    return Err(wrong(format!("credential_source `{other}` is not known")));
                }
                (None, None) => {
                    return Err(wrong("a role_arn needs a source_profile or a credential_source".to_owned()));
                }
            };
            return Ok(Some(Plan::Role(Box::new(Role {
                arn,
                session_name,
                external_id: setting("external_id"),
                duration_seconds: setting("duration_seconds"),
                base,
            }))));
        }
        if let Some(keys) = keys {
            return Ok(Some(Plan::Keys(keys)));
        }
        if let Some(command) = setting("credential_process") {
            return Ok(Some(Plan::Process { command, profile: name.to_owned() }));
        }
        if setting("sso_session").or_else(|| setting("sso_start_url")).is_some() {
            return Err(wrong(format!(
                "the single sign-on is not spoken here; another profile may have \
                 credential_process = aws configure export-credentials --profile {name}"
            )));
        }
        Ok(None)
    }

    fn keys_of(&self, name: &str) -> Result<Option<Keys>, CredentialError> {
        let files = [self.credentials.get(name), self.config_of(name)];
        for settings in files.into_iter().flatten() {
            let get = |key: &str| settings.get(key).map(String::as_str).filter(|value| !value.is_empty());
            let from = format!("profile `{name}`");
            match (get("aws_access_key_id"), get("aws_secret_access_key")) {
                (Some(id), Some(secret)) => {
                    return Keys::new(id, secret, get("aws_session_token"), &from).map(Some);
                }
                (None, None) => {}
                (Some(_), None) => {
                    return Err(CredentialError::permanent(format!(
                        "{from}: aws_access_key_id is there, and aws_secret_access_key is not"
                    )));
                }
                (None, Some(_)) => {
                    return Err(CredentialError::permanent(format!(
                        "{from}: aws_secret_access_key is there, and aws_access_key_id is not"
                    )));
                }
            }
        }
        Ok(None)
    }
}

/// What is said where there is nothing at all.
pub(in super::super) const NOTHING: &str = "no credentials: give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or \
                                            AWS_PROFILE, or AWS_SKIP_SIGNATURE=true where none are needed";

fn environment_keys(environment: &Environment) -> Result<Option<Keys>, CredentialError> {
    match (environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")) {
        (Some(id), Some(secret)) => {
            let token = environment.first(&["AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"]);
            Keys::new(id, secret, token, "environment").map(Some)
        }
        (None, None) => Ok(None),
        (Some(_), None) => {
            Err(CredentialError::permanent("AWS_ACCESS_KEY_ID is set, and AWS_SECRET_ACCESS_KEY is not"))
        }
        (None, Some(_)) => {
            Err(CredentialError::permanent("AWS_SECRET_ACCESS_KEY is set, and AWS_ACCESS_KEY_ID is not"))
        }
    }
}

fn file_path(environment: &Environment, variable: &str, name: &str) -> Option<PathBuf> {
    let home = || environment.get("HOME").map(PathBuf::from);
    match environment.get(variable) {
        Some(given) => match given.strip_prefix("~/") {
            Some(rest) => home().map(|home| home.join(rest)),
            None => Some(PathBuf::from(given)),
        },
        None => home().map(|home| home.join(".aws").join(name)),
    }
}

fn shown_path(environment: &Environment, variable: &str, name: &str) -> String {
    let path = file_path(environment, variable, name);
    path.as_deref().unwrap_or(Path::new("~/.aws").join(name).as_path()).display().to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::Mutex;

    use super::*;
    use crate::sys::System;

    /// A plan in a word, secrets and all: it is a test's.
    fn shown(plan: &Plan) -> String {
        match plan {
            Plan::Keys(keys) => {
                format!("{}:{}:{}", keys.id, keys.secret, keys.token.as_deref().unwrap_or("-"))
            }
            Plan::Process { command, .. } => format!("run {command}"),
            Plan::Role(role) => format!(
                "{} ({}) with {}",
                role.arn,
                role.external_id.as_deref().unwrap_or("-"),
                shown(&role.base)
            ),
            Plan::WebIdentity { token_file, role_arn, .. } => format!("{role_arn} with {token_file}"),
            Plan::Container => "container".to_owned(),
            Plan::Instance => "instance".to_owned(),
        }
    }

    fn resolve(config: &str, credentials: &str, variables: &[(&str, &str)]) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".aws")).unwrap();
        std::fs::write(dir.path().join(".aws/config"), config).unwrap();
        std::fs::write(dir.path().join(".aws/credentials"), credentials).unwrap();
        let home = dir.path().to_str().unwrap().to_owned();
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let environment: Environment = variables.chain([("HOME".to_owned(), home.clone())]).collect();
        let context = Context::new(&System::real(), environment, Arc::new(|_: &str| {}));
        let profiles = Profiles::read(&context).map_err(|error| error.to_string().replace(&home, "~"))?;
        let plan =
            profiles.plan(&context.environment).map_err(|error| error.to_string().replace(&home, "~"))?;
        Ok(shown(&plan))
    }

    #[test]
    fn the_first_that_is_there() {
        let keys = "[default]\naws_access_key_id = A\naws_secret_access_key = B\n[p]\naws_access_key_id=C\n\
                    aws_secret_access_key=D\naws_session_token=E\n";
        let plan = |variables: &[(&str, &str)]| resolve("", keys, variables).unwrap();
        assert_eq!(plan(&[]), "A:B:-");
        assert_eq!(plan(&[("AWS_PROFILE", "p")]), "C:D:E");
        let own = [("AWS_ACCESS_KEY_ID", "X"), ("AWS_SECRET_ACCESS_KEY", "Y"), ("AWS_PROFILE", "p")];
        assert_eq!(plan(&own), "X:Y:-");
        let pod = [("AWS_WEB_IDENTITY_TOKEN_FILE", "/t"), ("AWS_ROLE_ARN", "r")];
        assert_eq!(plan(&pod), "r with /t");
        assert_eq!(resolve("", "", &[]).unwrap(), "instance");
        assert_eq!(
            resolve("", "", &[("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/x")]).unwrap(),
            "container"
        );
        let none = resolve("", "", &[("AWS_EC2_METADATA_DISABLED", "true")]).unwrap_err();
        assert!(none.starts_with("no credentials: give AWS_ACCESS_KEY_ID"), "{none}");
    }

    #[test]
    fn profiles_that_lead_to_others() {
        let config = "[profile role]\nrole_arn=arn:r\nsource_profile=base\nexternal_id=e\n\
                      [profile twice]\nrole_arn=arn:t\nsource_profile=role\n\
                      [profile own]\nrole_arn=arn:o\nsource_profile=own\naws_access_key_id=O\naws_secret_access_key=P\n\
                      [profile machine]\nrole_arn=arn:m\ncredential_source=Ec2InstanceMetadata\n\
                      [profile web]\nrole_arn=arn:w\nweb_identity_token_file=/token\n\
                      [profile prog]\ncredential_process=/bin/keys --for 'me'\n";
        let credentials = "[base]\naws_access_key_id=A\naws_secret_access_key=B\n";
        let plan = |name: &str| resolve(config, credentials, &[("AWS_PROFILE", name)]).unwrap();
        assert_eq!(plan("role"), "arn:r (e) with A:B:-");
        assert_eq!(plan("twice"), "arn:t (-) with arn:r (e) with A:B:-");
        assert_eq!(plan("own"), "arn:o (-) with O:P:-");
        assert_eq!(plan("machine"), "arn:m (-) with instance");
        assert_eq!(plan("web"), "arn:w with /token");
        assert_eq!(plan("prog"), "run /bin/keys --for 'me'");
    }

    #[test]
    fn what_does_not_lead_to_credentials_is_named() {
        let config = "[profile sso]\nsso_session=s\nregion=x\n[profile mfa]\nrole_arn=a\nsource_profile=b\nmfa_serial=m\n\
                      [profile round]\nrole_arn=a\nsource_profile=trip\n[profile trip]\nrole_arn=a\nsource_profile=round\n\
                      [profile lost]\nrole_arn=a\nsource_profile=nowhere\n[profile bare]\nrole_arn=a\n\
                      [profile half]\naws_access_key_id=A\n[profile pasted]\naws_access_key_id=A\naws_secret_access_key=hunter 2\n\
                      [profile empty]\nregion=x\n";
        for (profile, why) in [
            (
                "sso",
                "profile `sso`: the single sign-on is not spoken here; another profile may have \
                     credential_process = aws configure export-credentials --profile sso",
            ),
            (
                "mfa",
                "profile `mfa`: a role with an mfa_serial asks for a code, and nobody is there to type it",
            ),
            ("round", "profile `round`: it is its own source_profile"),
            ("lost", "profile `lost`: its source_profile `nowhere` is not there"),
            ("bare", "profile `bare`: a role_arn needs a source_profile or a credential_source"),
            ("half", "profile `half`: aws_access_key_id is there, and aws_secret_access_key is not"),
            ("pasted", "profile `pasted`: the secret access key is empty or has characters that no key has"),
            ("empty", "profile `empty` has no credentials"),
            ("none", "profile `none` is neither in ~/.aws/config nor in ~/.aws/credentials"),
        ] {
            assert_eq!(resolve(config, "", &[("AWS_PROFILE", profile)]).unwrap_err(), why);
        }
        assert_eq!(
            resolve("", "", &[("AWS_ACCESS_KEY_ID", "A")]).unwrap_err(),
            "AWS_ACCESS_KEY_ID is set, and AWS_SECRET_ACCESS_KEY is not"
        );
        assert_eq!(
            resolve("x", "", &[]).unwrap_err(),
            "~/.aws/config: line 1: a setting before the first section"
        );
    }

    #[test]
    fn a_file_that_others_may_read_is_warned_of_once() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials");
        std::fs::write(&path, "[default]\naws_access_key_id = A\naws_secret_access_key = hunter2\n").unwrap();
        let environment: Environment =
            [("AWS_SHARED_CREDENTIALS_FILE", path.to_str().unwrap())].into_iter().collect();
        let said = Arc::new(Mutex::new(Vec::new()));
        let tell = {
            let said = said.clone();
            Arc::new(move |line: &str| said.lock().unwrap().push(line.to_owned()))
        };
        let context = Context::new(&System::real(), environment, tell);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        Profiles::read(&context).unwrap();
        assert!(said.lock().unwrap().is_empty());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        Profiles::read(&context).unwrap();
        Profiles::read(&context).unwrap();
        let said = said.lock().unwrap();
        assert_eq!(said.len(), 1);
        assert!(said[0].contains("other users") && !said[0].contains("hunter2"), "{said:?}");
    }

    #[test]
    fn settings_beside_the_keys() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        let text = "[profile p]\nregion = eu-west-1\nendpoint_url = http://all\nservices = mine\ns3 =\n  addressing_style = virtual\n\
                    [services mine]\ns3 =\n  endpoint_url = http://s3\n";
        std::fs::write(&path, text).unwrap();
        let environment: Environment =
            [("AWS_CONFIG_FILE", path.to_str().unwrap()), ("AWS_PROFILE", "p")].into_iter().collect();
        let context = Context::new(&System::real(), environment, Arc::new(|_: &str| {}));
        let profiles = Profiles::read(&context).unwrap();
        assert_eq!(profiles.setting("region"), Some("eu-west-1"));
        assert_eq!(profiles.setting("s3.addressing_style"), Some("virtual"));
        assert_eq!(
            (profiles.endpoint("s3"), profiles.endpoint("sts")),
            (Some("http://s3"), Some("http://all"))
        );
    }
}
