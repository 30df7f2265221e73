//! Several cloud-configs as one, as cloud-init merges them (its documentation, "Merging user-data
//! sections").

use crate::value::{Checked, Field};
use crate::yaml::{Node, Value};

/// How one value goes over another of the same kind.
#[derive(Clone, Debug, Default)]
pub struct Mergers {
    dict: Option<Dict>,
    list: Option<List>,
    text: Option<Text>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Dict {
    replace: bool,
    recurse_list: bool,
    recurse_str: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct List {
    order: Order,
    recurse_dict: bool,
    recurse_list: bool,
    recurse_str: bool,
}

#[derive(Clone, Copy, Debug, Default)]
enum Order {
    #[default]
    Replace,
    NoReplace,
    Append,
    Prepend,
}

#[derive(Clone, Copy, Debug, Default)]
struct Text {
    append: bool,
}

impl Mergers {
    /// Of two parts of one document: the later one's keys replace the earlier one's.
    #[must_use]
    pub fn of_parts() -> Self {
        let mut mergers = Self::of_vendor();
        mergers.add("dict", &["replace"]);
        mergers
    }

    /// Of user-data and vendor-data: what user-data says stays.
    #[must_use]
    pub fn of_vendor() -> Self {
        let mut mergers = Self::default();
        for name in ["dict", "list", "str"] {
            mergers.add(name, &[]);
        }
        mergers
    }

    /// What a part itself says in `merge_how` or `merge_type`: `list(append)+dict()`, or a list of
    /// names and their settings. None where it says nothing.
    ///
    /// # Errors
    /// If it is neither.
    pub fn named(config: &Field<'_>) -> Checked<Option<Self>> {
        let Some(how) = config.get("merge_how").or_else(|| config.get("merge_type")) else {
            return Ok(None);
        };
        if let Ok(text) = how.text() {
            return match Self::parse(text) {
                Some(mergers) => Ok(Some(mergers)),
                None => how.wrong("expected e.g. `list(append)+dict(recurse_list)+str()`"),
            };
        }
        let mut mergers = Self::default();
        for item in how.items()? {
            let Some(name) = item.get("name") else {
                return item.wrong("expected a `name` and its `settings`");
            };
            let settings = item.get("settings").map_or(Ok(Vec::new()), |s| s.words())?;
            let settings: Vec<&str> = settings.iter().map(|(word, _)| *word).collect();
            mergers.add(name.text()?, &settings);
        }
        Ok(Some(mergers))
    }

    /// `list(append)+dict(recurse_list)+str()`; none where it is written otherwise.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut mergers = Self::default();
        for part in text
            .split('+')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let (name, settings) = part.strip_suffix(')')?.split_once('(')?;
            let settings: Vec<&str> = settings.split(',').map(str::trim).collect();
            mergers.add(name, &settings);
        }
        Some(mergers)
    }

    /// One that is there already stays.
    fn add(&mut self, name: &str, settings: &[&str]) {
        let is = |wanted: &str| {
            let words = settings.iter();
            let mut words = words.map(|word| word.to_ascii_lowercase());
            words.any(|word| word == wanted)
        };
        let recurse_list = is("recurse_list") || is("recurse_array");
        let recurse_str = is("recurse_str");
        match name.trim().to_ascii_lowercase().as_str() {
            "dict" => {
                let replace = is("replace");
                self.dict = Some(Dict {
                    replace,
                    recurse_list,
                    recurse_str,
                });
            }
            "list" => {
                let order = match () {
                    () if is("append") => Order::Append,
                    () if is("prepend") => Order::Prepend,
                    () if is("no_replace") && !is("replace") => Order::NoReplace,
                    () => Order::Replace,
                };
                self.list = Some(List {
                    order,
                    recurse_dict: is("recurse_dict"),
                    recurse_list,
                    recurse_str,
                });
            }
            "str" => {
                let append = is("append");
                self.text = Some(Text { append });
            }
            _ => {}
        }
    }

    /// Puts `later` over `earlier`.
    #[must_use]
    pub fn merge(&self, earlier: Node, later: Node) -> Node {
        let place = earlier.place.clone();
        match (earlier.value, later.value) {
            (Value::Map(own), Value::Map(others)) if let Some(how) = self.dict => {
                let value = Value::Map(self.dicts(how, own, others));
                Node { place, value }
            }
            (Value::List(own), Value::List(others)) if let Some(how) = self.list => {
                let value = Value::List(self.lists(how, own, others));
                Node { place, value }
            }
            (Value::List(_), value)
                if self
                    .list
                    .is_some_and(|how| matches!(how.order, Order::Replace)) =>
            {
                Node { value, ..later }
            }
            (Value::Plain(own) | Value::Quoted(own), value) if let Some(how) = self.text => {
                match value {
                    Value::Plain(more) | Value::Quoted(more) if how.append => {
                        let value = Value::Quoted(own + &more);
                        Node { place, value }
                    }
                    value => Node { value, ..later },
                }
            }
            (value, _) => Node { place, value },
        }
    }

    fn dicts(
        &self,
        how: Dict,
        mut own: Vec<(String, Node)>,
        others: Vec<(String, Node)>,
    ) -> Vec<(String, Node)> {
        for (key, later) in others {
            let Some((_, before)) = own.iter_mut().find(|(name, _)| *name == key) else {
                own.push((key, later));
                continue;
            };
            let recurses = match later.value {
                Value::Map(_) => true,
                Value::List(_) => how.recurse_list,
                Value::Plain(_) | Value::Quoted(_) => how.recurse_str,
                Value::Null | Value::Binary(_) => false,
            };
            if how.replace {
                *before = later;
            } else if recurses {
                *before = self.merge(before.clone(), later);
            }
        }
        own
    }

    fn lists(&self, how: List, mut own: Vec<Node>, mut others: Vec<Node>) -> Vec<Node> {
        match how.order {
            Order::Append => own.append(&mut others),
            Order::Prepend => {
                others.append(&mut own);
                return others;
            }
            Order::NoReplace => {}
            Order::Replace => {
                for (before, later) in own.iter_mut().zip(others) {
                    let recurses = match later.value {
                        Value::Map(_) => how.recurse_dict,
                        Value::List(_) => how.recurse_list,
                        Value::Plain(_) | Value::Quoted(_) => how.recurse_str,
                        Value::Null | Value::Binary(_) => false,
                    };
                    *before = match recurses {
                        true => self.merge(before.clone(), later),
                        false => later,
                    };
                }
            }
        }
        own
    }
}

#[cfg(test)]
mod tests {
    use crate::yaml;

    use super::*;

    fn merged(how: &Mergers, earlier: &str, later: &str) -> Vec<String> {
        let node = |text| yaml::parse("x", text).unwrap().root;
        let merged = how.merge(node(earlier), node(later));
        let told = |(key, field): (&str, Field<'_>)| {
            let words: Vec<&str> = field
                .words()
                .unwrap()
                .iter()
                .map(|(word, _)| *word)
                .collect();
            format!("{key}: {}", words.join(" "))
        };
        Field::root(&merged)
            .entries()
            .unwrap()
            .into_iter()
            .map(told)
            .collect()
    }

    #[test]
    fn a_later_part_replaces_keys_and_vendor_data_adds_those_that_lack() {
        let (one, two) = ("a: [x]\nb: 1\n", "a: [y, z]\nc: 2\n");
        let parts = merged(&Mergers::of_parts(), one, two);
        assert_eq!(parts, ["a: y z", "b: 1", "c: 2"]);
        let vendor = merged(&Mergers::of_vendor(), one, two);
        assert_eq!(vendor, ["a: x", "b: 1", "c: 2"]);
    }

    #[test]
    fn lists_are_put_together_as_a_part_asks() {
        let (one, two) = ("a: [x]\n", "a: [y, z]\n");
        for (how, expected) in [
            (
                "list(append)+dict(no_replace,recurse_list)+str()",
                "a: x y z",
            ),
            ("list(prepend)+dict(recurse_array)", "a: y z x"),
            ("list()+dict(recurse_list)", "a: y"),
            ("list(append)", "a: x"),
            ("dict(replace)", "a: y z"),
        ] {
            let how = if how == "list(append)" {
                // As a list of names and settings.
                let text = "merge_how:\n- {name: list, settings: [append]}\n- {name: dict, settings: \
                            [no_replace]}\n";
                let document = yaml::parse("x", text).unwrap().root;
                Mergers::named(&Field::root(&document)).unwrap().unwrap()
            } else {
                Mergers::parse(how).unwrap()
            };
            assert_eq!(merged(&how, one, two), [expected], "{how:?}");
        }
        assert!(Mergers::parse("list").is_none());
    }
}
