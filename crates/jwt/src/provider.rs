//! The provider of `jsonwebtoken` on ring.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED,
    ECDSA_P384_SHA384_FIXED_SIGNING, ED25519, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaEncoding, RsaKeyPair, RsaParameters, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};
use ring::{digest, hmac};
use signature::{Error, Signer, Verifier};

/// Supports every algorithm of `jsonwebtoken`. It does not convert keys to JWKs, because nothing
/// here needs that.
pub(crate) static RING: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: verifier,
    key_utils: KeyUtils {
        rsa_pub_components_from_private_key: |_| Err(ErrorKind::InvalidAlgorithm.into()),
        rsa_pub_components_from_public_key: |_| Err(ErrorKind::InvalidAlgorithm.into()),
        ec_pub_components_from_private_key: |_, _| Err(ErrorKind::InvalidAlgorithm.into()),
        ed_pub_components_from_private_key: |_, _| Err(ErrorKind::InvalidAlgorithm.into()),
        compute_digest: |data, hash| {
            use jsonwebtoken::jwk::ThumbprintHash::{SHA256, SHA384, SHA512};
            let algorithm = match hash {
                SHA256 => &digest::SHA256,
                SHA384 => &digest::SHA384,
                SHA512 => &digest::SHA512,
                _ => return Err(ErrorKind::InvalidAlgorithm.into()),
            };
            Ok(digest::digest(algorithm, data).as_ref().to_vec())
        },
    },
};

struct Signing {
    algorithm: Algorithm,
    key: SigningKey,
}

enum SigningKey {
    Hmac(hmac::Key),
    Rsa(Box<RsaKeyPair>, &'static dyn RsaEncoding),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "`CryptoProvider` declares it so"
)]
fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    if key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidKeyFormat.into());
    }
    let bytes = key.as_bytes();
    let key = match algorithm {
        Algorithm::HS256 => SigningKey::Hmac(hmac::Key::new(hmac::HMAC_SHA256, bytes)),
        Algorithm::HS384 => SigningKey::Hmac(hmac::Key::new(hmac::HMAC_SHA384, bytes)),
        Algorithm::HS512 => SigningKey::Hmac(hmac::Key::new(hmac::HMAC_SHA512, bytes)),
        Algorithm::ES256 => ec_key(&ECDSA_P256_SHA256_FIXED_SIGNING, bytes)?,
        Algorithm::ES384 => ec_key(&ECDSA_P384_SHA384_FIXED_SIGNING, bytes)?,
        Algorithm::RS256 => rsa_key(&RSA_PKCS1_SHA256, bytes)?,
        Algorithm::RS384 => rsa_key(&RSA_PKCS1_SHA384, bytes)?,
        Algorithm::RS512 => rsa_key(&RSA_PKCS1_SHA512, bytes)?,
        Algorithm::PS256 => rsa_key(&RSA_PSS_SHA256, bytes)?,
        Algorithm::PS384 => rsa_key(&RSA_PSS_SHA384, bytes)?,
        Algorithm::PS512 => rsa_key(&RSA_PSS_SHA512, bytes)?,
        // PKCS #8 version 1 has no public key next to the private one, which ring would compare.
        Algorithm::EdDSA => SigningKey::Ed(
            Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes)
                .map_err(|_| ErrorKind::InvalidEddsaKey)?,
        ),
        _ => return Err(ErrorKind::InvalidAlgorithm.into()),
    };
    Ok(Box::new(Signing {
        algorithm: *algorithm,
        key,
    }))
}

fn ec_key(curve: &'static EcdsaSigningAlgorithm, pkcs8: &[u8]) -> Result<SigningKey> {
    EcdsaKeyPair::from_pkcs8(curve, pkcs8, &SystemRandom::new())
        .map(SigningKey::Ec)
        .map_err(|_| ErrorKind::InvalidEcdsaKey.into())
}

fn rsa_key(encoding: &'static dyn RsaEncoding, der: &[u8]) -> Result<SigningKey> {
    RsaKeyPair::from_der(der)
        .or_else(|_| RsaKeyPair::from_pkcs8(der))
        .map(|key| SigningKey::Rsa(Box::new(key), encoding))
        .map_err(|error| ErrorKind::InvalidRsaKey(error.to_string()).into())
}

impl Signer<Vec<u8>> for Signing {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, Error> {
        let random = SystemRandom::new();
        match &self.key {
            SigningKey::Hmac(key) => Ok(hmac::sign(key, message).as_ref().to_vec()),
            SigningKey::Rsa(key, encoding) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(*encoding, &random, message, &mut signature)
                    .map_err(|_| Error::new())?;
                Ok(signature)
            }
            SigningKey::Ec(key) => {
                let signature = key.sign(&random, message).map_err(|_| Error::new())?;
                Ok(signature.as_ref().to_vec())
            }
            SigningKey::Ed(key) => Ok(key.sign(message).as_ref().to_vec()),
        }
    }
}

impl JwtSigner for Signing {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

struct Verifying {
    algorithm: Algorithm,
    key: VerifyingKey,
}

enum VerifyingKey {
    Hmac(hmac::Key),
    /// An RSA public key by its parts.
    RsaComponents(&'static RsaParameters, RsaPublicKeyComponents<Vec<u8>>),
    /// An RSA public key as PKCS #1, a point of a curve, or an Ed25519 key.
    Public(UnparsedPublicKey<Vec<u8>>),
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "`CryptoProvider` declares it so"
)]
fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    if key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidKeyFormat.into());
    }
    let key = match algorithm {
        Algorithm::HS256 => hmac_key(hmac::HMAC_SHA256, key)?,
        Algorithm::HS384 => hmac_key(hmac::HMAC_SHA384, key)?,
        Algorithm::HS512 => hmac_key(hmac::HMAC_SHA512, key)?,
        Algorithm::ES256 => public_key(&ECDSA_P256_SHA256_FIXED, key)?,
        Algorithm::ES384 => public_key(&ECDSA_P384_SHA384_FIXED, key)?,
        Algorithm::EdDSA => public_key(&ED25519, key)?,
        Algorithm::RS256 => rsa_public_key(&RSA_PKCS1_2048_8192_SHA256, key),
        Algorithm::RS384 => rsa_public_key(&RSA_PKCS1_2048_8192_SHA384, key),
        Algorithm::RS512 => rsa_public_key(&RSA_PKCS1_2048_8192_SHA512, key),
        Algorithm::PS256 => rsa_public_key(&RSA_PSS_2048_8192_SHA256, key),
        Algorithm::PS384 => rsa_public_key(&RSA_PSS_2048_8192_SHA384, key),
        Algorithm::PS512 => rsa_public_key(&RSA_PSS_2048_8192_SHA512, key),
        _ => return Err(ErrorKind::InvalidAlgorithm.into()),
    };
    Ok(Box::new(Verifying {
        algorithm: *algorithm,
        key,
    }))
}

fn hmac_key(algorithm: hmac::Algorithm, key: &DecodingKey) -> Result<VerifyingKey> {
    let bytes = key.try_get_as_bytes()?;
    Ok(VerifyingKey::Hmac(hmac::Key::new(algorithm, bytes)))
}

fn public_key(
    algorithm: &'static dyn VerificationAlgorithm,
    key: &DecodingKey,
) -> Result<VerifyingKey> {
    let bytes = key.try_get_as_bytes()?.to_vec();
    Ok(VerifyingKey::Public(UnparsedPublicKey::new(
        algorithm, bytes,
    )))
}

fn rsa_public_key(parameters: &'static RsaParameters, key: &DecodingKey) -> VerifyingKey {
    match key.kind() {
        DecodingKeyKind::SecretOrDer(der) => {
            VerifyingKey::Public(UnparsedPublicKey::new(parameters, der.clone()))
        }
        DecodingKeyKind::RsaModulusExponent { n, e } => {
            let (n, e) = (n.clone(), e.clone());
            VerifyingKey::RsaComponents(parameters, RsaPublicKeyComponents { n, e })
        }
    }
}

impl Verifier<Vec<u8>> for Verifying {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        match &self.key {
            VerifyingKey::Hmac(key) => hmac::verify(key, message, signature),
            VerifyingKey::RsaComponents(parameters, key) => {
                key.verify(parameters, message, signature)
            }
            VerifyingKey::Public(key) => key.verify(message, signature),
        }
        .map_err(|_| Error::new())
    }
}

impl JwtVerifier for Verifying {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

#[cfg(test)]
mod tests;
