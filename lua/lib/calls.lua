-- calls(verb, key_count, known) → answers, one of each call
-- Runs a verb for every call that shares the script: each has `key_count` keys and one argument. The first `known`
-- keys of each are read beforehand, all by one command; `found` has their values by name, and a verb puts there
-- what it writes, for the calls after it. A verb is given the places in KEYS and ARGV before its own. What it
-- raises is the answer to its own call alone. Needs the aliases `call`, `spread`; defines the time for all calls.
-- include lib/clock
local found = {}
local function calls(verb, key_count, known)
  local count = #KEYS / key_count
  if count < 1 or #ARGV ~= count then
    error({err = 'BADARG every call wants ' .. key_count .. ' keys and 1 argument'})
  end
  local names, answers = {}, {}
  for i = 1, count do
    for at = 1, known do
      names[#names + 1] = KEYS[(i - 1) * key_count + at]
    end
  end
  local values = call('MGET', spread(names))
  for i = 1, #names do
    found[names[i]] = values[i]
  end
  for i = 1, count do
    local done, said = pcall(verb, (i - 1) * key_count, i)
    if not done then
      -- Errors of ours and of commands begin with their code, those of the language do not.
      said = {err = string.find(said, '^%u+ ') and said or 'ERR ' .. said}
    end
    answers[i] = said
  end
  return answers
end
