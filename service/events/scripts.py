"""Lua that runs on the event server: each script is one atomic, and one durable, step.

A script's writes reach the append-only file as one transaction, and with
``appendfsync always`` the reply leaves only after the fsync.
"""

KEEP_FEEDBACK = """
-- Append the events that were not seen before.
-- KEYS: stream, counts, then per event: its id key, its slate key
-- ARGV: seconds to remember, counter for duplicates, then per event:
--       member of the slate (empty: no token, not de-duplicated by slate), counter, entry
-- Returns per event: 0 new, 1 its id was seen, 2 its slate had this impression or click.
local remember, duplicate = ARGV[1], ARGV[2]
local fates, counts = {}, {}
for i = 1, (#KEYS - 2) / 2 do
  local id, slate = KEYS[2 * i + 1], KEYS[2 * i + 2]
  local member, counter, entry = ARGV[3 * i], ARGV[3 * i + 1], ARGV[3 * i + 2]
  local fate = 0
  if not redis.call('SET', id, '', 'NX', 'EX', remember) then
    fate = 1
  elseif member ~= '' then
    if redis.call('SADD', slate, member) == 0 then
      fate = 2
    elseif redis.call('SCARD', slate) == 1 then
      redis.call('EXPIRE', slate, remember)
    end
  end
  if fate == 0 then
    redis.call('XADD', KEYS[1], '*', 'e', entry)
  else
    counter = duplicate
  end
  fates[i] = fate
  counts[counter] = (counts[counter] or 0) + 1
  if counter == 'accepted' and member == '' then
    counts['unattributed'] = (counts['unattributed'] or 0) + 1
  end
end
for counter, n in pairs(counts) do
  redis.call('HINCRBY', KEYS[2], counter, n)
end
return fates
"""

KEEP_OBSERVATIONS = """
-- Append a batch of observations, once, however often it is sent.
-- KEYS: stream, counts, marker of this batch, then markers of batches that are known to be in
-- ARGV: seconds to remember, then per kind: its counter, how many there are, and the entries
-- Returns 1, or 0 for a batch that is in already.
for i = 4, #KEYS do
  redis.call('DEL', KEYS[i])
end
if not redis.call('SET', KEYS[3], '', 'NX', 'EX', ARGV[1]) then
  return 0
end
local at = 2
while at < #ARGV do
  local n = tonumber(ARGV[at + 1])
  for i = at + 2, at + 1 + n do
    redis.call('XADD', KEYS[1], '*', 'e', ARGV[i])
  end
  redis.call('HINCRBY', KEYS[2], ARGV[at], n)
  at = at + 2 + n
end
return 1
"""

APPLY = """
-- Add up entries of the stream, each exactly once: only who acknowledges an
-- entry that was pending adds it, and both happen in this one step.
-- KEYS: stream, counts
-- ARGV: group, seconds to remember a unit, clicks that a unit may have, entries as JSON:
--       an array of [id, {counter: n}, [arm]] with arm =
--       [statistics key, {field: n}, unit key, moved key, variant, clicks key, {field: n}];
--       the unit key is empty where no unit is to be counted, the clicks key where nothing is
--       capped; the last fields are added in place of the first for a click beyond the cap
-- Returns how many entries were applied.
local entries = cjson.decode(ARGV[4])
local sums, applied = {}, 0
local function add(key, field, n)
  local fields = sums[key]
  if not fields then
    fields = {}
    sums[key] = fields
  end
  fields[field] = (fields[field] or 0) + n
end
local function meet(unit, moved, variant, statistics)
  local first = redis.call('GETEX', unit, 'EX', ARGV[2])
  if not first then
    redis.call('SET', unit, variant, 'EX', ARGV[2])
    add(statistics, 'users', 1)
  elseif first ~= variant then
    if redis.call('SADD', moved, variant) == 1 then
      add(statistics, 'users', 1)
      add(statistics, 'crossovers', 1)
    end
    redis.call('EXPIRE', moved, ARGV[2])
  end
end
local function is_capped(clicks)
  local n = redis.call('INCR', clicks)
  redis.call('EXPIRE', clicks, ARGV[2])
  return n > tonumber(ARGV[3])
end
for _, entry in ipairs(entries) do
  if redis.call('XACK', KEYS[1], ARGV[1], entry[1]) == 1 then
    applied = applied + 1
    for counter, n in pairs(entry[2]) do
      add(KEYS[2], counter, n)
    end
    for _, arm in ipairs(entry[3]) do
      local fields = arm[2]
      if arm[6] ~= '' and is_capped(arm[6]) then
        fields = arm[7]
      end
      for field, n in pairs(fields) do
        add(arm[1], field, n)
      end
      if arm[3] ~= '' then
        meet(arm[3], arm[4], arm[5], arm[1])
      end
    end
  end
end
for key, fields in pairs(sums) do
  for field, n in pairs(fields) do
    if n ~= 0 then
      redis.call('HINCRBY', key, field, n)
    end
  end
end
return applied
"""

TIDY = """
-- Trim the stream behind all its groups, and forget consumers that are gone.
-- KEYS: stream
-- ARGV: group, milliseconds of silence after which a consumer with nothing pending is forgotten
local function before(a, b)
  local a1, a2 = string.match(a, '(%d+)-(%d+)')
  local b1, b2 = string.match(b, '(%d+)-(%d+)')
  if #a1 ~= #b1 then return #a1 < #b1 end
  if a1 ~= b1 then return a1 < b1 end
  return tonumber(a2) < tonumber(b2)
end
local function fields_of(flat)
  local fields = {}
  for i = 1, #flat, 2 do
    fields[flat[i]] = flat[i + 1]
  end
  return fields
end
local oldest
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = fields_of(flat)
  local needed = group['last-delivered-id']
  local pending = redis.call('XPENDING', KEYS[1], group['name'])
  if pending[1] > 0 and before(pending[2], needed) then
    needed = pending[2]
  end
  if not oldest or before(needed, oldest) then
    oldest = needed
  end
end
for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local consumer = fields_of(flat)
  if consumer['pending'] == 0 and consumer['idle'] > tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer['name'])
  end
end
return redis.call('XTRIM', KEYS[1], 'MINID', '~', oldest)
"""
