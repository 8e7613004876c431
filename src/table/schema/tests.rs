use super::*;
use proptest::prelude::*;

const EVERY: &str = "id bigint not null, at timestamp, ms timestamp(3), ns timestamp(9), wall timestamp_ntz, \
    wall_ms timestamp_ntz(3), tags array<string>, geo struct<lat:double not null,lon:double>, m map<string,int>, \
    price decimal(10,2), d date, b binary, s smallint, t tinyint, i int, f float, e double, v varchar(20), c char(3), \
    bool boolean, deep array<map<int,struct<`a-b`:array<date>,c:decimal(38,38)>>>, `the \"name\"` string, `a``b` int, \
    `create` int";

#[test]
fn ddl_prints_as_it_is_read() {
    let schema = Schema::parse(EVERY).unwrap();
    assert_eq!(schema.to_ddl(), EVERY);
    assert_eq!(Schema::parse(&schema.to_json()).unwrap(), schema);
    let arrow = Schema::from_arrow(schema.arrow()).unwrap();
    let plain = EVERY.replace("varchar(20)", "string").replace("char(3)", "string");
    assert_eq!(arrow.to_ddl(), plain);
}

#[test]
fn ddl_as_people_write_it() {
    let schema = Schema::parse(
        "CREATE EXTERNAL TABLE IF NOT EXISTS db.`clicks` (
           ID BIGINT NOT NULL COMMENT 'it''s, the id',  -- the key
           \"user.name\" CHARACTER VARYING(5) NULL,
           amount NUMERIC, share DOUBLE PRECISION, /* a note */
           At Timestamp With Time Zone, plain timestamp without time zone,
           geo STRUCT< Lat : DOUBLE , lon:Double COMMENT \"x\" >,
         )
         PARTITIONED BY (dt string) STORED AS PARQUET;",
    )
    .unwrap();
    assert_eq!(
        schema.to_ddl(),
        "ID bigint not null, `user.name` varchar(5), amount decimal(10,0), share double, At timestamp, \
         plain timestamp_ntz, geo struct<Lat:double,lon:double>"
    );
    assert_eq!(Schema::parse("(a int, b text);").unwrap().to_ddl(), "a int, b string");
    assert_eq!(Schema::parse("user.name string, x-y int").unwrap().to_ddl(), "`user.name` string, `x-y` int");
}

#[test]
fn ddl_that_is_wrong_says_where() {
    for (ddl, says) in [
        ("", "empty"),
        ("a", "a type is missing at the end"),
        ("a nothing", "`nothing` is not a type"),
        ("a int b int", "`,` is missing before \"b int\""),
        ("a array<int", "`>` is missing at the end"),
        ("a decimal(39,2)", "at most 38 digits"),
        ("a decimal(5,6)", "not more of them behind the point"),
        ("a varchar(0)", "holds nothing"),
        ("a timestamp(4)", "3, 6 or 9"),
        ("a int, a int", "twice"),
        ("a struct<b:int,b:int>", "\"a.b\" is there twice"),
        ("a map<array<int>,int>", "cannot be the key"),
        ("a int not", "NULL is missing"),
        ("`a int", "` is missing"),
        ("(a int", "`)` is missing"),
        ("a int comment x", "in quotes"),
        (",", "a name is missing"),
        ("[]", "no columns"),
        ("{}", "no `columns`"),
        ("{\"columns\":[{}]}", "column 1 has no `name`"),
        ("{\"columns\":[{\"name\":\"a\",\"type\":\"x\"}]}", "column \"a\": `x` is not a type"),
        ("{\"columns\":[{\"name\":\"a\",\"type\":\"int\",\"format\":\"yyyy\"}]}", "only timestamps"),
        ("{\"columns\":[{\"name\":\"a\",\"type\":\"date\",\"format\":\"qq\"}]}", "column \"a\""),
        ("{\"columns\":[{\"name\":\"a\",\"type\":\"int\",\"nullable\":1}]}", "true or false"),
        ("{", "not JSON"),
    ] {
        let error = Schema::parse(ddl).unwrap_err().to_string();
        assert!(error.contains(says), "{ddl:?}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn what_is_too_much() {
    let nested = |levels: usize| format!("a {}int{}", "array<".repeat(levels), ">".repeat(levels));
    assert!(Schema::parse(&nested(DEPTH_MAX)).is_ok());
    assert!(Schema::parse(&nested(DEPTH_MAX + 1)).is_err());
    assert!(Schema::parse(&nested(100_000)).is_err());
    let many = |columns: usize| (0..columns).map(|i| format!("c{i} int")).collect::<Vec<_>>().join(",");
    assert!(Schema::parse(&many(COLUMNS_MAX)).is_ok());
    assert!(Schema::parse(&many(COLUMNS_MAX + 1)).is_err());
    assert!(Schema::parse(&format!("{} int", "a".repeat(NAME_BYTES_MAX + 1))).is_err());
}

#[test]
fn json_in_its_forms() {
    let expected = Schema::parse("id bigint, tags array<string>").unwrap();
    for text in [
        r#"{"columns":[{"name":"id","type":"bigint","nullable":true},{"name":"tags","type":"array<string>"}]}"#,
        r#"[{"Name":"id","Type":"bigint"},{"Name":"tags","Type":"array<string>","Comment":"x"}]"#,
        r#"{"Table":{"Name":"t","StorageDescriptor":{"Columns":[{"Name":"id","Type":"BIGINT"},
            {"Name":"tags","Type":"array<string>"}]}}}"#,
        r#"{"type":"object","properties":{"id":{"type":"integer"},
            "tags":{"type":"array","items":{"type":"string"}}}}"#,
    ] {
        assert_eq!(Schema::parse(text).unwrap(), expected, "{text}");
    }
    let schema = Schema::parse(r#"[{"name":"at","type":"timestamp","format":"dd/MM/yyyy HH:mm"}]"#).unwrap();
    assert_eq!(schema.columns()[0].format.as_deref(), Some("dd/MM/yyyy HH:mm"));
    assert_eq!(Schema::parse(&schema.to_json()).unwrap(), schema);
}

#[test]
fn json_schema() {
    let schema = Schema::parse(
        r##"{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object",
        "$defs":{"geo":{"type":"object","properties":{"lat":{"type":"number"},"lon":{"type":["number","null"]}},
                        "required":["lat","lon"]}},
        "properties":{
          "zeta":{"type":"string"},"id":{"type":"integer"},"n":{"type":["integer","number"]},
          "at":{"type":"string","format":"date-time"},"day":{"type":"string","format":"date"},
          "geo":{"$ref":"#/$defs/geo"},"counts":{"type":"object","additionalProperties":{"type":"integer"}},
          "maybe":{"anyOf":[{"type":"boolean"},{"type":"null"}]},"kind":{"enum":["a","b"]},
          "raw":{"type":"string","contentEncoding":"base64"},"small":{"type":"integer","format":"int32"}},
        "required":["id","maybe"]}"##,
    )
    .unwrap();
    assert_eq!(
        schema.to_ddl(),
        "zeta string, id bigint not null, n double, at timestamp, day date, \
         geo struct<lat:double not null,lon:double>, counts map<string,bigint>, maybe boolean, kind string, raw binary, \
         small int"
    );
    for (text, says) in [
        (r#"{"properties":{"a":{"type":["string","integer"]}}}"#, "not one type"),
        (r#"{"properties":{"a":{"type":"object"}}}"#, "property \"a\": an object has neither"),
        (r#"{"properties":{"a":{"type":"array"}}}"#, "no `items`"),
        (r#"{"properties":{"a":{}}}"#, "no `type`"),
        (r##"{"properties":{"a":{"$ref":"#"}}}"##, "refers to itself"),
        (r#"{"properties":{"a":{"$ref":"other.json"}}}"#, "leads nowhere"),
        (r#"{"properties":{"a":{"oneOf":[{"type":"string"},{"type":"integer"}]}}}"#, "several types"),
        (r#"{"type":"array","items":{"type":"string"},"properties":{}}"#, "a row is an object"),
    ] {
        let error = Schema::parse(text).unwrap_err().to_string();
        assert!(error.contains(says), "{text}: {error}");
    }
}

/// Any type, not too deep.
pub(in crate::table) fn any_type() -> impl Strategy<Value = Type> {
    let leaf = prop_oneof![
        Just(Type::Boolean),
        Just(Type::TinyInt),
        Just(Type::SmallInt),
        Just(Type::Int),
        Just(Type::BigInt),
        Just(Type::Float),
        Just(Type::Double),
        (1u8..=38, 0u8..=38)
            .prop_map(|(precision, scale)| Type::Decimal { precision, scale: scale.min(precision) }),
        Just(Type::String),
        (1u32..100).prop_map(Type::Varchar),
        (1u32..100).prop_map(Type::Char),
        Just(Type::Binary),
        Just(Type::Date),
        (prop_oneof![Just(3), Just(6), Just(9)], any::<bool>())
            .prop_map(|(digits, utc)| Type::Timestamp { digits, utc }),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|item| Type::Array(Box::new(item))),
            (inner.clone(), inner.clone()).prop_map(|(key, value)| {
                let key = if key.is_key() { key } else { Type::String };
                Type::Map(Box::new(key), Box::new(value))
            }),
            any_columns(inner).prop_map(Type::Struct),
        ]
    })
}

fn any_columns(kind: impl Strategy<Value = Type>) -> impl Strategy<Value = Vec<Column>> {
    prop::collection::vec(("\\PC{1,6}", kind, any::<bool>()), 1..5).prop_map(|columns| {
        let mut names = std::collections::HashSet::new();
        columns
            .into_iter()
            .filter(|(name, ..)| names.insert(name.clone()))
            .map(|(name, kind, nullable)| Column { name, kind, nullable, format: None })
            .collect()
    })
}

proptest! {
    #[test]
    fn any_schema_comes_back_from_ddl_and_json(columns in any_columns(any_type())) {
        let schema = Schema::new(columns).unwrap();
        prop_assert_eq!(&Schema::parse(&schema.to_ddl()).unwrap(), &schema);
        prop_assert_eq!(&Schema::parse(&schema.to_json()).unwrap(), &schema);
    }

    #[test]
    fn any_text_is_a_schema_or_an_error(text in "[a-z<>(),: `'\"0-9{}\\[\\]]{0,40}") {
        let _ = Schema::parse(&text);
    }
}
