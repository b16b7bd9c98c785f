//! The part of SOQL that metadata clients send:
//! `SELECT a, b.c, FIELDS(STANDARD), (SELECT …), COUNT() FROM x WHERE a = 'v' AND b IN ('v', …) ORDER BY c LIMIT n`.

use std::iter::Peekable;
use std::str::Chars;

use super::{Answer, error};

/// A query.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) select: Vec<Select>,
    pub(super) from: String,
    pub(super) filters: Vec<Filter>,
    pub(super) order_by: Option<String>,
    pub(super) limit: Option<usize>,
}

/// One item of the SELECT list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Select {
    /// A column, also of a parent (`EntityDefinition.QualifiedApiName`).
    Column(String),
    /// `FIELDS(STANDARD)` or `FIELDS(ALL)`.
    Fields,
    /// `COUNT()`.
    Count,
    /// A query of a child relation, by the relation's name.
    Children(String),
}

/// One condition; all of them have to hold.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) column: String,
    pub(super) operator: Operator,
    pub(super) values: Vec<Literal>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Like,
    In,
    NotIn,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Literal {
    Text(String),
    Bool(bool),
    Number(String),
    Null,
}

/// Why a query is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem(String);

impl Problem {
    pub(super) fn answer(&self) -> Answer {
        error(400, "MALFORMED_QUERY", &self.0)
    }
}

pub(super) fn parse(text: &str) -> Result<Query, Problem> {
    let mut parser = Parser { tokens: tokens(text)?.into_iter().peekable() };
    let query = parser.query()?;
    match parser.tokens.next() {
        None => Ok(query),
        Some(token) => Err(unexpected(&token)),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    Sign(String),
}

fn unexpected(token: &Token) -> Problem {
    let (Token::Word(text) | Token::Text(text) | Token::Sign(text)) = token;
    Problem(format!("unexpected token: {text}"))
}

fn tokens(text: &str) -> Result<Vec<Token>, Problem> {
    let mut tokens = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            _ if c.is_whitespace() => {}
            '\'' => tokens.push(Token::Text(quoted(&mut rest)?)),
            '(' | ')' | ',' | '=' => tokens.push(Token::Sign(c.into())),
            '<' | '>' | '!' => {
                let mut sign = String::from(c);
                sign.extend(rest.next_if(|next| *next == '=' || c == '<' && *next == '>'));
                tokens.push(Token::Sign(sign));
            }
            _ => {
                let mut word = String::from(c);
                while let Some(more) = rest.next_if(|next| next.is_alphanumeric() || "_.:-+".contains(*next)) {
                    word.push(more);
                }
                tokens.push(Token::Word(word));
            }
        }
    }
    Ok(tokens)
}

fn quoted(rest: &mut Peekable<Chars<'_>>) -> Result<String, Problem> {
    let mut text = String::new();
    while let Some(c) = rest.next() {
        match c {
            '\'' => return Ok(text),
            '\\' => text.extend(rest.next()),
            c => text.push(c),
        }
    }
    Err(Problem("a quoted string has no end".into()))
}

struct Parser {
    tokens: Peekable<std::vec::IntoIter<Token>>,
}

impl Parser {
    fn query(&mut self) -> Result<Query, Problem> {
        self.keyword("select")?;
        let mut select = vec![self.select()?];
        while self.sign(",") {
            select.push(self.select()?);
        }
        self.keyword("from")?;
        let mut query = Query { select, from: self.word()?, filters: Vec::new(), order_by: None, limit: None };
        if self.is_keyword("where") {
            query.filters.push(self.filter()?);
            while self.is_keyword("and") {
                query.filters.push(self.filter()?);
            }
        }
        if self.is_keyword("order") {
            self.keyword("by")?;
            query.order_by = Some(self.word()?);
            if !self.is_keyword("asc") && self.is_keyword("desc") {
                return Err(Problem("this sandbox sorts upwards only".into()));
            }
        }
        if self.is_keyword("limit") {
            let limit = self.word()?;
            query.limit = Some(limit.parse().map_err(|error| Problem(format!("LIMIT {limit}: {error}")))?);
        }
        Ok(query)
    }

    fn select(&mut self) -> Result<Select, Problem> {
        if self.sign("(") {
            let children = self.query()?.from;
            self.expect(")")?;
            return Ok(Select::Children(children));
        }
        let word = self.word()?;
        if !self.sign("(") {
            return Ok(Select::Column(word));
        }
        let function = word.to_lowercase();
        let argument = if self.sign(")") {
            String::new()
        } else {
            let argument = self.word()?.to_lowercase();
            self.expect(")")?;
            argument
        };
        match (function.as_str(), argument.as_str()) {
            ("count", "") => Ok(Select::Count),
            ("fields", "standard" | "all") => Ok(Select::Fields),
            _ => Err(Problem(format!("unexpected function: {word}({argument})"))),
        }
    }

    fn filter(&mut self) -> Result<Filter, Problem> {
        let column = self.word()?;
        let operator = match self.tokens.next() {
            Some(Token::Sign(sign)) => match sign.as_str() {
                "=" => Operator::Equal,
                "!=" | "<>" => Operator::Unequal,
                "<" => Operator::Less,
                "<=" => Operator::LessOrEqual,
                ">" => Operator::Greater,
                ">=" => Operator::GreaterOrEqual,
                _ => return Err(Problem(format!("unexpected token: {sign}"))),
            },
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("like") => Operator::Like,
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("in") => Operator::In,
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("not") => {
                self.keyword("in")?;
                Operator::NotIn
            }
            Some(token) => return Err(unexpected(&token)),
            None => return Err(Problem("the condition has no end".into())),
        };
        let values = if matches!(operator, Operator::In | Operator::NotIn) {
            self.expect("(")?;
            let mut values = vec![self.literal()?];
            while self.sign(",") {
                values.push(self.literal()?);
            }
            self.expect(")")?;
            values
        } else {
            vec![self.literal()?]
        };
        Ok(Filter { column, operator, values })
    }

    fn literal(&mut self) -> Result<Literal, Problem> {
        match self.tokens.next() {
            Some(Token::Text(text)) => Ok(Literal::Text(text)),
            Some(Token::Word(word)) => Ok(match word.to_lowercase().as_str() {
                "true" => Literal::Bool(true),
                "false" => Literal::Bool(false),
                "null" => Literal::Null,
                _ => Literal::Number(word),
            }),
            Some(token) => Err(unexpected(&token)),
            None => Err(Problem("a value is missing".into())),
        }
    }

    fn word(&mut self) -> Result<String, Problem> {
        match self.tokens.next() {
            Some(Token::Word(word)) => Ok(word),
            Some(token) => Err(unexpected(&token)),
            None => Err(Problem("unexpected end of query".into())),
        }
    }

    fn is_keyword(&mut self, keyword: &str) -> bool {
        let is = |token: &Token| matches!(token, Token::Word(word) if word.eq_ignore_ascii_case(keyword));
        self.tokens.next_if(is).is_some()
    }

    fn keyword(&mut self, keyword: &str) -> Result<(), Problem> {
        if self.is_keyword(keyword) { Ok(()) } else { Err(self.missing(keyword)) }
    }

    fn sign(&mut self, sign: &str) -> bool {
        self.tokens.next_if(|token| matches!(token, Token::Sign(text) if text == sign)).is_some()
    }

    fn expect(&mut self, sign: &str) -> Result<(), Problem> {
        if self.sign(sign) { Ok(()) } else { Err(self.missing(sign)) }
    }

    fn missing(&mut self, what: &str) -> Problem {
        match self.tokens.peek() {
            Some(token) => unexpected(token),
            None => Problem(format!("expecting {what}, found the end of the query")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_that_clients_send_are_understood() {
        let query = parse(
            "SELECT Description, QualifiedApiName FROM FieldDefinition WHERE EntityDefinition.QualifiedApiName='A'",
        );
        let query = query.unwrap();
        assert_eq!(query.from, "FieldDefinition");
        assert_eq!(query.filters[0].column, "EntityDefinition.QualifiedApiName");
        assert_eq!(query.filters[0].values, [Literal::Text("A".into())]);

        let query = parse(
            "select fields(standard), (select FieldId, IsCascadeDelete from ChildRelationships), (select Name from Layouts) \
             from EntityDefinition where IsQueryable = true and KeyPrefix != null and QualifiedApiName in ('a\\'b','c')",
        );
        let query = query.unwrap();
        assert_eq!(query.select[0], Select::Fields);
        assert_eq!(query.select[1], Select::Children("ChildRelationships".into()));
        assert_eq!(query.filters[1].operator, Operator::Unequal);
        assert_eq!(query.filters[2].values[0], Literal::Text("a'b".into()));

        let query =
            parse("SELECT DurableId FROM EntityDefinition WHERE DurableId > '000' ORDER BY DurableId LIMIT 2000")
                .unwrap();
        assert_eq!((query.order_by.as_deref(), query.limit), (Some("DurableId"), Some(2000)));
        assert_eq!(parse("select count() from Account").unwrap().select, [Select::Count]);
    }

    #[test]
    fn anything_else_is_refused() {
        for text in
            ["", "select", "select a from b where c = 'd", "select a from b where c = 'd' or e = 'f'", "delete from x"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
