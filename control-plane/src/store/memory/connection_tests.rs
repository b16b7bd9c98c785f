//! Connection tests.

use async_trait::async_trait;
use jiff::Timestamp;

use super::MemoryStore;
use crate::store::connection_tests::{KEPT, MAX_OPEN_TESTS};
use crate::store::{AskError, ConnectionTest, ConnectionTests, StoreError, TestAnswer, TestId};

#[async_trait]
impl ConnectionTests for MemoryStore {
    async fn ask_test(&self, pipeline: &str, expires_at: Timestamp, now: Timestamp) -> Result<TestId, AskError> {
        self.transaction(|state| {
            let forgotten = now.checked_sub(KEPT).unwrap_or(Timestamp::MIN);
            state.tests.retain(|_, test| test.expires_at >= forgotten);
            if state.tests.values().filter(|test| test.answer.is_none()).count() >= MAX_OPEN_TESTS {
                return Err(AskError::TooMany);
            }
            let new = state.definitions().into_iter().map(|definition| definition.new);
            let new = new.into_iter().find(|new| new.pipeline == pipeline);
            let new = new.ok_or_else(|| AskError::UnknownPipeline { pipeline: pipeline.to_owned() })?;
            let test = ConnectionTest {
                id: TestId::new(),
                pipeline: new.pipeline,
                source: new.source,
                workflow_json: new.workflow_json,
                expires_at,
                agent: None,
                answer: None,
            };
            let id = test.id;
            state.tests.insert(id, test);
            Ok(id)
        })
    }

    async fn open_tests(&self) -> Result<Vec<ConnectionTest>, StoreError> {
        self.read(|state| state.tests.values().filter(|test| test.answer.is_none()).cloned().collect())
    }

    async fn test(&self, id: TestId) -> Result<Option<ConnectionTest>, StoreError> {
        self.read(|state| state.tests.get(&id).cloned())
    }

    async fn take_test(&self, id: TestId, agent: &str) -> Result<bool, StoreError> {
        self.transaction(|state| {
            let test = state.tests.get_mut(&id).filter(|test| test.agent.is_none() && test.answer.is_none());
            Ok(test.map(|test| test.agent = Some(agent.to_owned())).is_some())
        })
    }

    async fn answer_test(&self, id: TestId, agent: Option<&str>, answer: TestAnswer) -> Result<bool, StoreError> {
        self.transaction(|state| {
            let mine = |test: &&mut ConnectionTest| agent.is_none() || test.agent.as_deref() == agent;
            let test = state.tests.get_mut(&id).filter(|test| test.answer.is_none()).filter(mine);
            Ok(test.map(|test| test.answer = Some(answer)).is_some())
        })
    }
}
