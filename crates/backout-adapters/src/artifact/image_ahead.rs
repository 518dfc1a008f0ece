//! What a reference would stand for after a pull, asked of its registry without pulling anything.

use std::net::IpAddr;

use backout_core::ports::AdapterError;
use serde::Deserialize;
use serde_json::Value;

use super::image::{IMAGE_SCHEME, ImageArtifacts, Pull, Resolved, no_answer};
use crate::docker::{Call, Docker, said};
use crate::host::Ended;

/// One image of a reference, as `docker manifest inspect --verbose` prints it.
#[derive(Debug, Deserialize)]
struct Manifest {
    #[serde(rename = "Descriptor")]
    descriptor: Descriptor,
    #[serde(rename = "SchemaV2Manifest", alias = "OCIManifest")]
    content: Option<Content>,
}

#[derive(Debug, Deserialize)]
struct Descriptor {
    digest: String,
    platform: Option<Platform>,
}

#[derive(Debug, Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

#[derive(Debug, Deserialize)]
struct Content {
    config: Config,
}

#[derive(Debug, Deserialize)]
struct Config {
    digest: String,
}

impl ImageArtifacts {
    /// What [`ImageArtifacts::resolve`] would give. Nothing is pulled: this is for plans that nobody has agreed to.
    pub(crate) async fn foresee(
        &self,
        reference: &str,
        pull: Pull,
    ) -> Result<Resolved, AdapterError> {
        let docker = self.docker();
        let here = docker.image(reference).await?;
        if !Self::is_pulled(here.as_ref(), pull) {
            return self.resolve(reference, Pull::Never).await;
        }
        let mut args = vec!["manifest", "inspect", "--verbose"];
        if is_insecure(docker, reference).await? {
            args.push("--insecure");
        }
        args.push(reference);
        let finished = docker.run(Call::look(args)).await?;
        let words = said(&finished);
        if finished.ended != Ended::Exited(0) {
            return match () {
                // An old or a small client.
                () if words.contains("is not a docker command")
                    || words.contains("experimental") =>
                {
                    self.resolve(reference, Pull::Never).await
                }
                () => Err(no_answer("look up", reference, &words)),
            };
        }
        let platform =
            docker.look(["version", "--format", "{{.Server.Os}}/{{.Server.Arch}}"]).await?;
        let platform = String::from_utf8_lossy(&platform).trim().to_owned();
        let image = read(&finished.stdout.bytes(), &platform);
        let (manifest, id) = image.ok_or_else(|| {
            AdapterError::permanent(format!(
                "failed to look up image {reference}: there is none for {platform}"
            ))
            .with_hint("build and push it for this platform too")
        })?;
        let name = reference.split('@').next().unwrap_or(reference);
        let (digest, path) = (format!("{IMAGE_SCHEME}{id}"), format!("{name}@{manifest}"));
        Ok(Resolved { digest, path })
    }
}

/// Digest of the manifest, and of the configuration, which is the image's id, for a platform.
fn read(bytes: &[u8], platform: &str) -> Option<(String, String)> {
    let all = match serde_json::from_slice(bytes).ok()? {
        Value::Array(all) => all,
        one => vec![one],
    };
    let all = all.into_iter().filter_map(|one| serde_json::from_value::<Manifest>(one).ok());
    let fits = |manifest: &Manifest| {
        let of = manifest.descriptor.platform.as_ref();
        of.is_none_or(|of| format!("{}/{}", of.os, of.architecture) == platform)
    };
    let found = all.into_iter().find(fits)?;
    Some((found.descriptor.digest, found.content?.config.digest))
}

/// Whether the engine itself would take this registry without a certificate.
async fn is_insecure(docker: &Docker, reference: &str) -> Result<bool, AdapterError> {
    let Some(registry) = registry(reference) else { return Ok(false) };
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return Ok(true);
    }
    let known = docker.look(["info", "--format", "{{json .RegistryConfig}}"]).await?;
    let known: Value = serde_json::from_slice(&known).unwrap_or_default();
    Ok(known["IndexConfigs"][registry]["Secure"] == false)
}

/// `registry.example.com:5000` of `registry.example.com:5000/shop/web:1`; none: the public one.
fn registry(reference: &str) -> Option<&str> {
    let (first, _) = reference.split_once('/')?;
    (first.contains(['.', ':']) || first == "localhost").then_some(first)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn manifest(kind: &str, os: &str, config: &str) -> Value {
        json!({
            "Ref": "web:1",
            "Descriptor": {"digest": format!("sha256:m{config}"), "platform": {"architecture": "amd64", "os": os}},
            kind: {"config": {"digest": format!("sha256:{config}")}},
        })
    }

    #[test]
    fn the_image_for_this_platform_is_found() {
        let one = manifest("SchemaV2Manifest", "linux", "1");
        let several =
            json!([manifest("OCIManifest", "windows", "2"), manifest("OCIManifest", "linux", "3")]);
        let read = |value: &Value| read(value.to_string().as_bytes(), "linux/amd64").map(|it| it.1);
        assert_eq!(read(&one).as_deref(), Some("sha256:1"));
        assert_eq!(read(&several).as_deref(), Some("sha256:3"));
        assert_eq!(read(&json!([manifest("OCIManifest", "windows", "2")])), None);
    }

    #[test]
    fn registries_are_told_from_folders() {
        assert_eq!(registry("127.0.0.1:5000/web:v1"), Some("127.0.0.1:5000"));
        assert_eq!(registry("localhost/web"), Some("localhost"));
        assert_eq!((registry("shop/web:v1"), registry("web:v1")), (None, None));
    }
}
