#!/usr/bin/env bash
# report.sh OUT ROWS MQBENCH VERSUS: what the runs below OUT/runs found, as OUT/bench.json and OUT/bench.md; prints the
# table. Called by tools/bench.sh. A ratio is of two runs that followed each other; shown are median, least and most.
set -euo pipefail
out=$1 rows=$2 mqbench=$3 versus=$4

load_of() { jq -r --arg row "$1" --arg key "$2" '.[] | select(.name == $row) | .[$key] // empty' "$rows"; }
{
  for file in "$out"/runs/*.*.json; do
    [ -e "$file" ] || continue
    name=$(basename "$file" .json)
    row=${name%%.*} rest=${name#*.}
    pair=${rest%%.*} side=${rest#*.}
    case "$side" in *ceiling) count=$(load_of "$row" ceiling_count) ;; *) count=$(load_of "$row" count) ;; esac
    times=1
    [ "$side" != ceiling ] || times=$(load_of "$row" ceiling_times)
    jq -c --arg row "$row" --arg side "$side" --argjson pair "$pair" --arg load "$count" --argjson times "${times:-1}" \
      '.figures as $f | {row: $row, pair: $pair, side: $side, figures: ($f + {rate: (($f[$load + ".rate"] // 0) * $times), p50: $f[$load + ".p50"],
         p99: $f[$load + ".p99"], p999: $f[$load + ".p999"], max: $f[$load + ".max"], cpu: $f["server.cpu"],
         resident: $f["server.resident"], anonymous: $f["server.anonymous"]})}' "$file"
  done
} >"$out/runs.jsonl"

jq -s --slurpfile rows "$rows" --slurpfile process "$out/process.json" --arg versus "$versus" \
  --arg version "$("$mqbench" --version | tail -1)" --arg cpu "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1)" \
  --argjson processors "$(nproc)" --arg kernel "$(uname -r)" --arg date "$(date -u +%FT%TZ)" '
  def spread: map(select(. != null)) | sort | if length == 0 then null
    else {median: .[(length - 1) / 2 | floor], least: .[0], most: .[-1], runs: length} end;
  . as $runs
  | def of($row; $side; $figure): [$runs[] | select(.row == $row and .side == $side)] | sort_by(.pair) | map(.figures[$figure]);
    def ratio($row; $a; $b; $figure):
      [of($row; $a; $figure), of($row; $b; $figure)] | transpose
      | map(if .[0] == null or .[1] == null or .[1] == 0 then null else .[0] / .[1] end) | spread;
    {version: $version, date: $date, machine: {cpu: $cpu, processors: $processors, kernel: $kernel}, versus: $versus,
     rows: [$rows[0][] | . as $row
       | ($process[0][.name]) as $numbers
       | (if $numbers then ($numbers | map_values(spread))
          else (["rate", "p50", "p99", "p999", "max", "cpu", "resident", "anonymous"] + [.aims[].figure] | unique
                | map({key: ., value: (of($row.name; "own"; .) | spread)}) | from_entries) end) as $own
       | select([$own[] | select(. != null)] | length > 0)
       | {name, title, ceiling_is, own: $own,
          ceiling: (["rate", "p50", "p99", "p999", "cpu"] | map({key: ., value: (of($row.name; "ceiling"; .) | spread)}) | from_entries),
          versus: (["rate", "p50", "p99", "p999", "cpu", "anonymous"]
                   | map({key: ., value: (of($row.name; "versus"; .) | spread)}) | from_entries),
          over_versus: (["rate", "p50", "p99", "p999", "cpu"]
                        | map({key: ., value: ratio($row.name; "own"; "versus"; .)}) | from_entries),
          aims: [.aims[] | . as $aim
                 | (if $aim.over then ratio($row.name; "own"; $aim.over; $aim.figure) else $own[$aim.figure] end) as $is
                 | $aim + {is: $is, met: (if $is == null then null
                                          elif $aim.least then $is.median >= $aim.least else $is.median <= $aim.most end)}]}]}' \
  "$out/runs.jsonl" >"$out/bench.json"

jq -r '
  def short: if . == null then "" elif . >= 100 then (. + 0.5 | floor | tostring)
    elif . >= 10 then (. * 10 + 0.5 | floor / 10 | tostring) else (. * 100 + 0.5 | floor / 100 | tostring) end;
  def span: if . == null then "" else "\(.median | short) (\(.least | short)–\(.most | short))" end;
  "\(.version), \(.date), \(.machine.cpu), \(.machine.processors) processors, Linux \(.machine.kernel)",
  "",
  "| row | figure | median (least–most) | ceiling | aim | |" + (if .versus != "" then " / \(.versus) |" else "" end),
  "|---|---|---|---|---|---|" + (if .versus != "" then "---|" else "" end),
  (.versus as $versus | .rows[] | . as $row | .aims[]
   | "| \($row.title) | \(.figure)\(if .over then " / " + ($row.ceiling_is // .over) else "" end) | \(.is | span) | \(if .over then ($row.ceiling[.figure].median | short) else "" end) | \(if .least then "≥ \(.least)" else "≤ \(.most)" end) | \(if .met == null then "not measured" elif .met then "met" else "missed" end) |"
     + (if $versus != "" then " \($row.over_versus[.figure] | span) |" else "" end))' "$out/bench.json" | tee "$out/bench.md"
