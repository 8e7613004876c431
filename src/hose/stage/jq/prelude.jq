# What jq 1.6 has and jaq has not, or has otherwise.

# Membership, indexes
def IN(s): . as $x | any(s; . == $x);
def IN(source; s): . as $in | any(source; . as $x | $in | any(s; . == $x));
def INDEX(stream; f): reduce stream as $row ({}; .[$row | f | tostring] = $row);
def INDEX(f): INDEX(.[]; f);
def leaf_paths: paths(scalars);
def recurse_down: recurse;
def scalars_or_empty: select(scalars or . == null or . == false);

# In jq null joins as an empty string, and arrays and objects do not join.
def join($s):
  def part: if . == null then "" elif isnumber or isboolean then tojson else . end;
  reduce .[] as $x (null; (if . == null then "" else . + $s end) + ($x | part)) // "";

# Rows of text
def @csv:
  [.[] | if isstring then "\"" + gsub("\""; "\"\"") + "\""
    elif . == null then ""
    elif isnumber or isboolean then tojson
    else error("\(type) (\(tojson)) is not valid in a csv row") end] | join(",");
def @tsv:
  [.[] | if isstring then gsub("\\\\"; "\\\\") | gsub("\t"; "\\t") | gsub("\n"; "\\n") | gsub("\r"; "\\r")
    elif . == null then ""
    elif isnumber or isboolean then tojson
    else error("\(type) (\(tojson)) cannot be tsv-formatted, only string") end] | join("\t");
def format($f):
  if   $f == "text"    then @text
  elif $f == "json"    then @json
  elif $f == "csv"     then @csv
  elif $f == "tsv"     then @tsv
  elif $f == "html"    then @html
  elif $f == "uri"     then @uri
  elif $f == "sh"      then @sh
  elif $f == "base64"  then @base64
  elif $f == "base64d" then @base64d
  else error("\($f) is not a valid format") end;
