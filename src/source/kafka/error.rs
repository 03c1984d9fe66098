use std::sync::{Mutex, PoisonError};

use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};

/// Kafka could not be used. The text says what to look at.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum KafkaError {
    #[error("Kafka at {brokers} cannot be reached: {reason}; check kafka.brokers, the network, and security.protocol")]
    Unreachable { brokers: String, reason: String },
    #[error("Kafka at {brokers} refuses the login: {reason}; check the sasl.* and ssl.* keys of kafka.properties")]
    Authentication { brokers: String, reason: String },
    #[error("Kafka has no topic {}; create it, or correct the route", .topics.join(", "))]
    MissingTopic { topics: Vec<String> },
    #[error("Kafka does not allow this to {what}: {reason}; grant READ and DESCRIBE on the topics and READ on the group")]
    Authorization { what: String, reason: String },
    #[error("the Kafka client refuses its settings: {reason}; check kafka.properties")]
    Property { reason: String },
    #[error("Kafka does not answer the request for {what}: {reason}")]
    Request { what: &'static str, reason: String },
}

impl KafkaError {
    /// The same attempt may succeed later, without a change of the settings.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::MissingTopic { .. } | Self::Request { .. })
    }

    /// From what creating a client or setting a property answered.
    pub(super) fn from_creation(error: &ClientError) -> Self {
        match error {
            ClientError::ClientConfig(_, reason, key, _) => Self::Property { reason: format!("{key}: {reason}") },
            other => Self::Property { reason: other.to_string() },
        }
    }
}

/// What the client last complained of. Its calls answer only "timed out"; the reason comes as an event.
#[derive(Debug, Default)]
pub(super) struct Complaint(Mutex<Option<(Code, String)>>);

impl Complaint {
    pub(super) fn note(&self, error: &ClientError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else { return };
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // "All brokers are down" follows each refused login and would hide it.
        let hides = matches!(&*last, Some((Code::Authentication, _))) && code != Code::Authentication;
        if !hides && (code != Code::AllBrokersDown || last.is_none()) {
            *last = Some((code, reason.to_owned()));
        }
    }

    /// The last reason, said as an error of an attempt on these brokers.
    pub(super) fn explain(&self, brokers: &str, otherwise: &ClientError) -> KafkaError {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            Some((Code::Authentication | Code::SaslAuthenticationFailed, reason)) => KafkaError::Authentication { brokers: brokers.to_owned(), reason },
            Some((_, reason)) => KafkaError::Unreachable { brokers: brokers.to_owned(), reason },
            None => KafkaError::Unreachable { brokers: brokers.to_owned(), reason: otherwise.to_string() },
        }
    }

    pub(super) fn is_authentication(&self) -> bool {
        matches!(&*self.0.lock().unwrap_or_else(PoisonError::into_inner), Some((Code::Authentication | Code::SaslAuthenticationFailed, _)))
    }

    pub(super) fn last_reason(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|(_, reason)| reason.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_login_is_not_hidden_by_what_follows_it() {
        let complaint = Complaint::default();
        complaint.note(&ClientError::Global(Code::Authentication), "sasl: wrong password");
        complaint.note(&ClientError::Global(Code::AllBrokersDown), "1/1 brokers are down");
        let error = complaint.explain("k:9092", &ClientError::Canceled);
        assert_eq!(error, KafkaError::Authentication { brokers: "k:9092".to_owned(), reason: "sasl: wrong password".to_owned() });
        assert!(!error.is_retryable());
    }

    #[test]
    fn a_connection_that_fails_is_retryable_and_says_why() {
        let complaint = Complaint::default();
        complaint.note(&ClientError::Global(Code::BrokerTransportFailure), "connection refused");
        let error = complaint.explain("k:9092", &ClientError::Canceled);
        assert!(error.is_retryable() && error.to_string().contains("k:9092 cannot be reached: connection refused"), "{error}");
    }
}
