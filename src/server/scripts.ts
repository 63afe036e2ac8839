/**
 * What Redis does in one go: one script for each operation of a store (store.ts), in Redis' Lua 5.1. Those of relays are in
 * relay-scripts.ts.
 *
 *   dcpipe:n:NAMEPLATE, dcpipe:o:NAME   hash, a mailbox; with R = w(aiting) or j(oining):
 *       Rk key | Rs seat, "PROCESS NUMBER" | Rn bodies posted | R0, R1, ... bodies | Re its ending | both 1 when both have come
 *       until, ms since 1970 | maker, claimer addresses
 *   dcpipe:a:ADDRESS                    sorted set, mailboxes made from there, by their `until`
 *   dcpipe:g:ADDRESS                    hash, wrong guesses from there: count | next, when the next CLAIM may follow
 *   dcpipe:p:PROCESS                    channel on which a process hears what concerns its seats: "NUMBER KIND ARGUMENT BODY"
 *
 * A mailbox where both came is kept beyond its `until`, so that its nameplate is used for a while. Times are Redis' own, so that processes
 * need not agree about them.
 *
 * An admission is answered with { refused, code }, { wait, ms } or { attached, nameplate, stored, received, both, fresh, lifetime, body, ... }.
 */
import type { Role } from "../wire/hello.ts";

export const KEY_PREFIX = "dcpipe:";
/** How a role is written there. */
export const LETTER: Readonly<Record<Role, string>> = { waiting: "w", joining: "j" };

/** What all scripts begin with. */
export const PRELUDE = `
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function plate(nameplate) return 'dcpipe:n:' .. nameplate end
local function other(role) if role == 'w' then return 'j' end return 'w' end

-- How many processes hear it: 1, or 0 when that one is gone.
local function notice(seat, text)
  if not seat or seat == '' then return 0 end
  local process, number = string.match(seat, '^(%S+) (%d+)$')
  return redis.call('PUBLISH', 'dcpipe:p:' .. process, number .. ' ' .. text)
end

local function alive(mailbox)
  local till = redis.call('HGET', mailbox, 'until')
  return till and tonumber(till) > now
end

-- Sets when a mailbox expires; one where both came is remembered for kept ms more.
local function keep(mailbox, till, kept)
  redis.call('HSET', mailbox, 'until', till)
  redis.call('PEXPIREAT', mailbox, till + kept)
  local made = 'dcpipe:a:' .. redis.call('HGET', mailbox, 'maker')
  redis.call('ZADD', made, till, mailbox)
  if redis.call('PTTL', made) < till - now then redis.call('PEXPIREAT', made, till) end
end

-- The mailbox is over: each side hears its ending, those who post late too.
local function finish(mailbox, own, other_role, own_code, other_code, kept)
  local m = redis.call('HMGET', mailbox, own .. 's', other_role .. 's', 'both', own .. 'k', other_role .. 'k', 'maker')
  notice(m[1], 'CLOSE ' .. own_code)
  notice(m[2], 'CLOSE ' .. other_code)
  redis.call('ZREM', 'dcpipe:a:' .. m[6], mailbox)
  redis.call('DEL', mailbox)
  if not m[3] then return end
  redis.call('HSET', mailbox, 'until', now, 'both', 1, own .. 'e', own_code, other_role .. 'e', other_code,
    own .. 'k', m[4], other_role .. 'k', m[5], 'maker', m[6])
  redis.call('PEXPIREAT', mailbox, now + kept)
end

local function guess(address, memory)
  local g = 'dcpipe:g:' .. address
  redis.call('HINCRBY', g, 'count', 1)
  redis.call('PEXPIREAT', g, now + memory)
end

-- Lifetimes are { unclaimed, claimed, used } in ms.
local function attach(mailbox, nameplate, role, seat, key, received, lifetimes)
  local o = other(role)
  local m = redis.call('HMGET', mailbox, role .. 's', role .. 'n', o .. 'k', o .. 's', o .. 'n', 'both', 'until')
  local theirs = tonumber(m[5] or 0)
  if received > theirs then return { 'refused', 4003 } end
  notice(m[1], 'CLOSE 1001')
  redis.call('HSET', mailbox, role .. 'k', key, role .. 's', seat)
  local both, fresh, till = m[6], 0, tonumber(m[7] or 0)
  if not both and m[3] then
    both, fresh, till = 1, 1, now + lifetimes[2]
    redis.call('HSET', mailbox, 'both', 1)
    keep(mailbox, till, lifetimes[3])
    notice(m[4], 'JOINED')
  elseif not both then
    till = now + lifetimes[1]
    keep(mailbox, till, 0)
  end
  local reply = { 'attached', nameplate, tonumber(m[2] or 0), received, tonumber(both or 0), fresh, till - now }
  if theirs > received then
    local fields = {}
    for i = received, theirs - 1 do fields[#fields + 1] = o .. i end
    for _, body in ipairs(redis.call('HMGET', mailbox, unpack(fields))) do reply[#reply + 1] = body end
  end
  return reply
end

local function make(mailbox, nameplate, role, seat, key, address, most, lifetimes)
  local made = 'dcpipe:a:' .. address
  redis.call('ZREMRANGEBYSCORE', made, '-inf', now)
  if redis.call('ZCARD', made) >= most then return { 'refused', 4007 } end
  redis.call('DEL', mailbox)
  redis.call('HSET', mailbox, 'maker', address)
  return attach(mailbox, nameplate, role, seat, key, 0, lifetimes)
end

local function lifetimes(at) return { tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]) } end

-- Why this seat is no longer attached there, or nil.
local function expelled(mailbox, role, seat)
  local m = redis.call('HMGET', mailbox, 'until', role .. 's', role .. 'e')
  if not m[1] then return 4003 end
  if m[3] then return tonumber(m[3]) end
  if tonumber(m[1]) <= now then return 4006 end
  if m[2] ~= seat then return 1001 end
end
`;

/** ARGV: seat, address, key, wish, crowded, most, guess memory, lifetimes (3), then samples: a count and as many nameplates. */
const ALLOCATE = `
local seat, address, key, wish = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local lives = lifetimes(8)
if wish ~= '0' then
  local mailbox = plate(wish)
  local there = redis.call('HGET', mailbox, 'wk')
  if there == key and alive(mailbox) then return attach(mailbox, tonumber(wish), 'w', seat, key, 0, lives) end
  if redis.call('EXISTS', mailbox) == 0 then
    return make(mailbox, tonumber(wish), 'w', seat, key, address, tonumber(ARGV[6]), lives)
  end
  -- A wish for what is taken tells as much as a claim of it would.
  guess(address, tonumber(ARGV[7]))
end
local at, free = 11, nil
while ARGV[at] do
  local size, taken = tonumber(ARGV[at]), 0
  free = nil
  for i = at + 1, at + size do
    if redis.call('EXISTS', plate(ARGV[i])) == 1 then taken = taken + 1 else free = ARGV[i] end
  end
  if taken < tonumber(ARGV[5]) then break end
  at = at + size + 1
end
if not free then return { 'refused', 4007 } end
return make(plate(free), tonumber(free), 'w', seat, key, address, tonumber(ARGV[6]), lives)
`;

/** ARGV: seat, address, key, nameplate, waited, free guesses, first delay, largest delay, longest wait, guess memory, lifetimes (3). */
const CLAIM = `
local seat, address, key, nameplate = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local guesses = 'dcpipe:g:' .. address
if ARGV[5] == '0' then
  local g = redis.call('HMGET', guesses, 'count', 'next')
  local beyond = g[1] and g[1] - tonumber(ARGV[6])
  if beyond and beyond >= 0 then
    local turn = math.max(now, tonumber(g[2] or 0)) + math.min(tonumber(ARGV[8]), tonumber(ARGV[7]) * 2 ^ beyond)
    if turn - now > tonumber(ARGV[9]) then return { 'refused', 4007 } end
    redis.call('HSET', guesses, 'next', turn)
    return { 'wait', turn - now }
  end
end
local mailbox = plate(nameplate)
local m = redis.call('HMGET', mailbox, 'both', 'jk', 'until')
if m[1] and m[2] ~= key then
  guess(address, tonumber(ARGV[10]))
  return { 'refused', 4004 }
end
if not m[3] or tonumber(m[3]) <= now then
  guess(address, tonumber(ARGV[10]))
  return { 'refused', 4003 }
end
redis.call('HSET', mailbox, 'claimer', address)
return attach(mailbox, tonumber(nameplate), 'j', seat, key, 0, lifetimes(11))
`;

/** ARGV: seat, address, key, role, name, received, most, lifetimes (3). */
const OPEN = `
local seat, address, key, role, received = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[6])
local mailbox, lives = 'dcpipe:o:' .. ARGV[5], lifetimes(8)
local there = alive(mailbox)
local holder = there and redis.call('HGET', mailbox, role .. 'k')
if holder == key then return attach(mailbox, 0, role, seat, key, received, lives) end
-- Who has received something from here was in another mailbox of this name.
if received > 0 then return { 'refused', 4010 } end
if holder then
  finish(mailbox, role, other(role), 4010, 4010, lives[3])
  there = false
end
if there then return attach(mailbox, 0, role, seat, key, 0, lives) end
return make(mailbox, 0, role, seat, key, address, tonumber(ARGV[7]), lives)
`;

/** ARGV: seat, key, role, nameplate, received, lifetimes (3). */
const RESUME = `
local mailbox, role = plate(ARGV[4]), ARGV[3]
if not alive(mailbox) or redis.call('HGET', mailbox, role .. 'k') ~= ARGV[2] then return { 'refused', 4003 } end
return attach(mailbox, tonumber(ARGV[4]), role, ARGV[1], ARGV[2], tonumber(ARGV[5]), lifetimes(6))
`;

/** ARGV: mailbox, role, seat, index, body. Answers with a close code, or 0. */
const POST = `
local mailbox, role, index = ARGV[1], ARGV[2], tonumber(ARGV[4])
local code = expelled(mailbox, role, ARGV[3])
if code then return code end
local m = redis.call('HMGET', mailbox, role .. 'n', other(role) .. 's')
local count = tonumber(m[1] or 0)
if index > count then return 4002 end
if index < count then return 0 end
redis.call('HSET', mailbox, role .. index, ARGV[5], role .. 'n', index + 1)
notice(m[2], 'MESSAGE ' .. index .. ' ' .. ARGV[5])
return 0
`;

/** ARGV: mailbox, role, seat, unclaimed lifetime. Answers as POST. */
const RENEW = `
local mailbox = ARGV[1]
local code = expelled(mailbox, ARGV[2], ARGV[3])
if code then return code end
if not redis.call('HGET', mailbox, 'both') then keep(mailbox, now + tonumber(ARGV[4]), 0) end
return 0
`;

/** ARGV: mailbox, role, seat, own code, other code, wrong, guess memory, kept. Answers with 1 if the mailbox was there. */
const RELEASE = `
local mailbox, role = ARGV[1], ARGV[2]
if expelled(mailbox, role, ARGV[3]) then return 0 end
local claimer = redis.call('HGET', mailbox, 'claimer')
if ARGV[6] == '1' and claimer then guess(claimer, tonumber(ARGV[7])) end
redis.call('HSET', mailbox, role .. 's', '')
finish(mailbox, role, other(role), ARGV[4], ARGV[5], tonumber(ARGV[8]))
return 1
`;

/** ARGV: mailbox, role, seat, detached lifetime, kept. */
const DETACH = `
local mailbox, role = ARGV[1], ARGV[2]
if expelled(mailbox, role, ARGV[3]) then return 0 end
redis.call('HSET', mailbox, role .. 's', '')
local m = redis.call('HMGET', mailbox, 'until', 'both')
local till = now + tonumber(ARGV[4])
if till < tonumber(m[1]) then keep(mailbox, till, m[2] and tonumber(ARGV[5]) or 0) end
return 0
`;

export const SCRIPTS = {
  allocate: PRELUDE + ALLOCATE,
  claim: PRELUDE + CLAIM,
  open: PRELUDE + OPEN,
  resume: PRELUDE + RESUME,
  post: PRELUDE + POST,
  renew: PRELUDE + RENEW,
  release: PRELUDE + RELEASE,
  detach: PRELUDE + DETACH,
} as const;
