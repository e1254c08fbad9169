//! A sample as endpoints: the recorded device answers what it answered once.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::parse::{HttpAnswer, ModbusBlock, Sample};
use crate::transport::{
    Block, BoxFuture, Endpoint, Http, HttpError, HttpMethod, HttpRequest, HttpResponse, Modbus, ModbusError,
};

impl Sample {
    /// An endpoint that answers from this sample; `None` for MQTT, whose messages arrive unasked.
    #[must_use]
    pub fn endpoint(&self) -> Option<Endpoint> {
        match self {
            Sample::Modbus(blocks) => Some(Endpoint::Modbus(Arc::new(SampleRegisters::new(blocks)))),
            Sample::Http(answers) => Some(Endpoint::Http(Arc::new(SampleHttp { answers: answers.clone() }))),
            Sample::Mqtt(_) => None,
        }
    }
}

/// The recorded registers of one unit.
struct SampleRegisters {
    blocks: BTreeMap<(crate::transport::Table, u16), Vec<u16>>,
}

impl SampleRegisters {
    fn new(blocks: &[ModbusBlock]) -> Self {
        Self { blocks: blocks.iter().map(|b| ((b.table, b.start), b.values.clone())).collect() }
    }

    /// The values, if one recorded block holds all of them; a device refuses everything else with exception 2.
    fn get(&self, block: Block) -> Result<Vec<u16>, ModbusError> {
        let refused = ModbusError::Exception(2);
        let (start, values) = self
            .blocks
            .range((block.table, 0)..=(block.table, block.address))
            .next_back()
            .map(|((_, start), values)| (*start, values))
            .ok_or(refused.clone())?;
        let from = usize::from(block.address - start);
        values.get(from..from + usize::from(block.count)).map(<[u16]>::to_vec).ok_or(refused)
    }
}

impl Modbus for SampleRegisters {
    fn read(&self, block: Block) -> BoxFuture<'_, Result<Vec<u16>, ModbusError>> {
        let answer = self.get(block);
        Box::pin(async move { answer })
    }

    fn read_many(&self, blocks: Vec<Block>) -> BoxFuture<'_, Vec<Result<Vec<u16>, ModbusError>>> {
        let answers = blocks.into_iter().map(|block| self.get(block)).collect();
        Box::pin(async move { answers })
    }

    fn write_coil(&self, _: u16, _: bool) -> BoxFuture<'_, Result<(), ModbusError>> {
        read_only()
    }

    fn write_register(&self, _: u16, _: u16) -> BoxFuture<'_, Result<(), ModbusError>> {
        read_only()
    }

    fn write_registers(&self, _: u16, _: Vec<u16>) -> BoxFuture<'_, Result<(), ModbusError>> {
        read_only()
    }
}

fn read_only<T>() -> BoxFuture<'static, Result<T, ModbusError>> {
    Box::pin(async { Err(ModbusError::Denied("a recorded payload can only be read".into())) })
}

/// The recorded answers of one HTTP origin.
struct SampleHttp {
    answers: Vec<HttpAnswer>,
}

impl SampleHttp {
    /// An answer recorded for this very path and query wins over one for the same path, that over one for any.
    fn get(&self, path: &str) -> HttpResponse {
        let bare = |path: &str| path.split('?').next().unwrap_or_default().to_owned();
        let exact = self.answers.iter().find(|a| a.path.as_deref() == Some(path));
        let same_path = || self.answers.iter().find(|a| a.path.as_deref().is_some_and(|p| bare(p) == bare(path)));
        let any = || self.answers.iter().find(|a| a.path.is_none());
        let (status, body) = match exact.or_else(same_path).or_else(any) {
            Some(answer) => (answer.status, answer.body.clone()),
            None => (404, String::new()),
        };
        HttpResponse { status, headers: vec![("content-type".into(), "application/json".into())], body: body.into() }
    }
}

impl Http for SampleHttp {
    fn send(&self, request: HttpRequest, max_body: u64) -> BoxFuture<'_, Result<HttpResponse, HttpError>> {
        let answer = if matches!(request.method, HttpMethod::Get | HttpMethod::Head) {
            Ok(self.get(&format!("/{}", request.path.trim_start_matches('/'))))
        } else {
            Err(HttpError::Denied("a recorded payload can only be read".into()))
        };
        let answer = answer.and_then(|response| {
            let size = response.body.len() as u64;
            if size > max_body { Err(HttpError::Limit(format!("the body has {size} bytes"))) } else { Ok(response) }
        });
        Box::pin(async move { answer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Table;

    #[test]
    fn leaving_a_block_is_exception_two() {
        let block = ModbusBlock { table: Table::Input, start: 10, values: vec![1, 2, 3] };
        let registers = SampleRegisters::new(&[block]);
        let read = |address, count| registers.get(Block { table: Table::Input, address, count });
        assert_eq!(read(11, 2), Ok(vec![2, 3]));
        for (address, count) in [(9, 1), (11, 3), (13, 1), (0, 1)] {
            assert_eq!(read(address, count), Err(ModbusError::Exception(2)), "{address}+{count}");
        }
        assert_eq!(
            registers.get(Block { table: Table::Holding, address: 10, count: 1 }),
            Err(ModbusError::Exception(2))
        );
    }

    #[test]
    fn an_unrecorded_path_is_not_found() {
        let answer = |path: Option<&str>, body: &str| HttpAnswer {
            path: path.map(str::to_owned),
            status: 200,
            body: body.to_owned(),
        };
        let http = SampleHttp { answers: vec![answer(Some("/status"), "a"), answer(Some("/x?y=1"), "b")] };
        assert_eq!(http.get("/status").body, b"a");
        assert_eq!(http.get("/x?y=1").body, b"b");
        assert_eq!(http.get("/x?y=2").body, b"b");
        assert_eq!(http.get("/api/status").status, 404);
        let any = SampleHttp { answers: vec![answer(None, "c")] };
        assert_eq!(any.get("/whatever").body, b"c");
    }
}
