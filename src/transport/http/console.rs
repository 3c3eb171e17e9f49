//! `GET /console/`: the page for operators. Its files are built from `console/` and embedded.

use std::io::Read;
use std::sync::LazyLock;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use bytes::Bytes;
use flate2::read::GzDecoder;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use ring::digest::{SHA256, digest};

use super::Shared;

/// What the page may do: run its own script and style, and ask its own server. Nothing inline, nothing
/// from elsewhere, in no frame.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'",
);

/// A file of the page, compressed.
struct Asset {
    content_type: &'static str,
    gzip: &'static [u8],
}

const INDEX: Asset = Asset {
    content_type: "text/html; charset=utf-8",
    gzip: include_bytes!("../../../console/dist/index.html.gz"),
};
const SCRIPT: Asset = Asset {
    content_type: "text/javascript; charset=utf-8",
    gzip: include_bytes!("../../../console/dist/app.js.gz"),
};
const STYLE: Asset = Asset {
    content_type: "text/css; charset=utf-8",
    gzip: include_bytes!("../../../console/dist/app.css.gz"),
};

/// The routes. The page keeps its own addresses behind `#`, so there is one document.
pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/console", get(async || Redirect::permanent("/console/")))
        .route(
            "/console/",
            get(async |headers: HeaderMap| INDEX.answer(&headers, &TAGS[0])),
        )
        .route(
            "/console/app.js",
            get(async |headers: HeaderMap| SCRIPT.answer(&headers, &TAGS[1])),
        )
        .route(
            "/console/app.css",
            get(async |headers: HeaderMap| STYLE.answer(&headers, &TAGS[2])),
        )
}

/// The entity tags of the files (RFC 9110 §8.8.3).
static TAGS: LazyLock<[HeaderValue; 3]> =
    LazyLock::new(|| [INDEX.tag(), SCRIPT.tag(), STYLE.tag()]);

impl Asset {
    fn tag(&self) -> HeaderValue {
        let digest = digest(&SHA256, self.gzip);
        let text: String = digest
            .as_ref()
            .iter()
            .take(12)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        HeaderValue::try_from(format!("W/\"{text}\"")).unwrap_or(HeaderValue::from_static("W/\"\""))
    }

    fn answer(&self, headers: &HeaderMap, tag: &HeaderValue) -> Response {
        let known = headers.get(IF_NONE_MATCH) == Some(tag);
        let mut response = if known {
            StatusCode::NOT_MODIFIED.into_response()
        } else if accepts_gzip(headers) {
            let mut response = Response::new(Body::from(Bytes::from_static(self.gzip)));
            let gzip = HeaderValue::from_static("gzip");
            response.headers_mut().insert(CONTENT_ENCODING, gzip);
            response
        } else {
            Response::new(Body::from(self.plain()))
        };
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(ETAG, tag.clone());
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(CONTENT_SECURITY_POLICY, POLICY);
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        response
    }

    /// The file for clients that take nothing compressed.
    fn plain(&self) -> Vec<u8> {
        let mut plain = Vec::new();
        match GzDecoder::new(self.gzip).read_to_end(&mut plain) {
            Ok(_) => plain,
            Err(_) => Vec::new(),
        }
    }
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(ACCEPT_ENCODING).iter();
    accepted.any(|accept| {
        accept.to_str().is_ok_and(|accept| {
            accept.split(',').any(|coding| {
                let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
                name.trim().eq_ignore_ascii_case("gzip")
                    && !matches!(weight.trim(), "q=0" | "q=0.0")
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_has_no_inline_script_or_style_that_its_policy_would_stop() {
        let page = String::from_utf8(INDEX.plain()).unwrap();
        assert!(
            page.contains("src=\"./app.js\"") && page.contains("href=\"./app.css\""),
            "{page}"
        );
        assert_eq!(page.matches("<script").count(), 1);
        for inline in [
            "<style",
            " style=",
            " onclick=",
            " onload=",
            "javascript:",
            "http://",
            "https://",
        ] {
            assert!(!page.contains(inline), "{inline}");
        }
        assert!(!POLICY.to_str().unwrap().contains("unsafe"));
    }

    #[test]
    fn page_is_small() {
        let bytes: usize = [INDEX, SCRIPT, STYLE]
            .iter()
            .map(|asset| asset.gzip.len())
            .sum();
        assert!(bytes <= 150 * 1024, "{bytes}");
        assert!(
            [INDEX, SCRIPT, STYLE]
                .iter()
                .all(|asset| !asset.plain().is_empty())
        );
    }

    #[test]
    fn gzip_is_sent_only_where_it_is_accepted() {
        for (accept, accepted) in [
            ("gzip, br", true),
            ("br;q=1, gzip;q=0.5", true),
            ("gzip;q=0", false),
            ("br", false),
        ] {
            let headers =
                HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(accept))]);
            assert_eq!(accepts_gzip(&headers), accepted, "{accept}");
            let answer = INDEX.answer(&headers, &TAGS[0]);
            assert_eq!(
                answer.headers().contains_key(CONTENT_ENCODING),
                accepted,
                "{accept}"
            );
        }
        let known = HeaderMap::from_iter([(IF_NONE_MATCH, TAGS[0].clone())]);
        assert_eq!(
            INDEX.answer(&known, &TAGS[0]).status(),
            StatusCode::NOT_MODIFIED
        );
    }
}
