//! Answers of the proxy itself: short, honest, with the reason in a header.

use bytes::Bytes;
use hyper::{
    Response, StatusCode,
    header::{self, HeaderName, HeaderValue},
};

use super::body::Download;

/// The header that says that the proxy answers, and why.
pub(crate) const REASON: HeaderName = HeaderName::from_static("x-backout");

/// Why the proxy answers instead of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    BadHost,
    BadRequest,
    ConnectMethod,
    NoSide,
    Refused,
    ConnectTimeout,
    NoAnswer,
    BadAnswer,
    ResponseTimeout,
    ConnectionRace,
    Withdrawn,
    Overloaded,
}

impl Reason {
    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::BadHost => (
                StatusCode::BAD_REQUEST,
                "bad-host",
                "The request must have exactly one valid Host header.\n",
            ),
            Self::BadRequest => {
                (StatusCode::BAD_REQUEST, "bad-request", "The request could not be understood.\n")
            }
            Self::ConnectMethod => (
                StatusCode::METHOD_NOT_ALLOWED,
                "connect-method",
                "The method CONNECT is not served here.\n",
            ),
            Self::NoSide => (
                StatusCode::SERVICE_UNAVAILABLE,
                "no-side",
                "No release takes traffic at the moment. Try again soon.\n",
            ),
            Self::Refused => (
                StatusCode::BAD_GATEWAY,
                "upstream-refused",
                "The service refused the connection.\n",
            ),
            Self::ConnectTimeout => (
                StatusCode::GATEWAY_TIMEOUT,
                "upstream-connect-timeout",
                "The service could not be reached in time.\n",
            ),
            Self::NoAnswer => (
                StatusCode::BAD_GATEWAY,
                "upstream-closed",
                "The service closed the connection without an answer.\n",
            ),
            Self::BadAnswer => (
                StatusCode::BAD_GATEWAY,
                "upstream-invalid",
                "The service's answer could not be understood.\n",
            ),
            Self::ResponseTimeout => (
                StatusCode::GATEWAY_TIMEOUT,
                "upstream-timeout",
                "The service did not answer in time.\n",
            ),
            Self::ConnectionRace => (
                StatusCode::BAD_GATEWAY,
                "upstream-race",
                "The service closed a kept connection just as the request was sent. It was not sent again.\n",
            ),
            Self::Withdrawn => (
                StatusCode::SERVICE_UNAVAILABLE,
                "withdrawn",
                "The release was taken out of service before it answered.\n",
            ),
            Self::Overloaded => (
                StatusCode::SERVICE_UNAVAILABLE,
                "proxy-overloaded",
                "The proxy is out of resources. Try again soon.\n",
            ),
        }
    }

    /// The answer.
    pub(crate) fn response(self) -> Response<Download> {
        let (status, reason, text) = self.parts();
        let mut response = Response::new(Download::Text(Some(Bytes::from_static(text.as_bytes()))));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(REASON, HeaderValue::from_static(reason));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
