// What moves on the heat map's page: the panel, the choices, the slider and the keyboard.
const data = JSON.parse(document.getElementById('data').textContent);  // tokens of each attempt
const main = document.querySelector('main');
const panel = document.querySelector('.panel');
const slider = document.querySelector('[type=range]');
const attempts = [...document.querySelectorAll('.attempt')];
const cuts = main.dataset.cuts.split(' ').map(Number);

// The chosen attempt: its tokens and its section.
function chosen() {
  const n = document.querySelector('[name=step]:checked').value;
  return [data[n], attempts[n]];
}

// The models of these steps are known; those of a step make its attempts.
function steps(tokens) {
  return Object.keys(tokens[0].said).map(Number);
}

function now() {
  return steps(chosen()[0])[slider.value];
}

function difference(token) {
  const said = token.said[now()];
  return said ? said[1].p - said[0].p : 0;
}

function make(tag, text = '', cls = '') {
  const element = document.createElement(tag);
  element.textContent = text;
  element.className = cls;
  return element;
}

function shown(text) {
  return text.replaceAll('\n', '⏎').replaceAll(' ', '␣');
}

function signed(d) {
  return (d < 0 ? '−' : '+') + Math.abs(d).toFixed(2);
}

// A probability as number and as bar.
function row(text, p, own) {
  const fill = make('i');
  fill.style.width = `${100 * p}%`;
  const bar = make('span', '', 'bar');
  bar.append(fill);

  const left = make('td');
  left.append(make('code', (own ? '▸ ' : '') + shown(text)));
  const right = make('td');
  right.append(bar, p.toFixed(3));

  const tr = make('tr', '', own ? 'own' : '');
  tr.append(left, right);
  return tr;
}

// A model's top five, and the token that was written where it is none of them.
function table(title, token, said) {
  const t = make('table');
  t.append(make('caption', title));
  for (const [text, p] of said.top) t.append(row(text, p, text === token.text));
  if (!said.top.some(([text]) => text === token.text)) t.append(row(token.text, said.p, true));
  return t;
}

// The panel about token t, and a frame around it in the attempt.
function look(t) {
  const [tokens, section] = chosen();
  const token = tokens[t];
  const said = token.said[now()];

  main.querySelectorAll('.now').forEach(e => e.classList.remove('now'));
  section.querySelectorAll(`[data-t="${t}"]`).forEach(e => e.classList.add('now'));

  const head = make('div');
  head.append(make('code', shown(token.text), 'token'), ` token ${+t + 1} of ${tokens.length}`);
  if (!said) {
    panel.replaceChildren(head, make('div', 'printed by a tool: not in the loss'));
    return;
  }

  const number = make('div', `p_teacher − p_student = ${signed(difference(token))}`);
  const student = table('Student, without the feedback', token, said[0]);
  const teacher = table('Teacher, who read the feedback', token, said[1]);
  panel.replaceChildren(head, number, student, teacher);
  if (!said[0].top.length) {
    panel.append(make('small', 'What else they expected was not recorded: --keep-every, or the slider.'));
  }
}

// What paper has instead of the panel: the tokens that are coloured most.
function list(tokens) {
  const paper = document.querySelector('.paper');
  const head = make('tr');
  for (const title of ['token', 'p_T − p_S', 'student: p, top five', 'teacher: p, top five']) {
    head.append(make('th', title));
  }
  paper.replaceChildren(make('caption', 'Where they differ most'), head);

  const strong = tokens.filter(token => Math.abs(difference(token)) >= cuts[1]);
  strong.sort((a, b) => Math.abs(difference(b)) - Math.abs(difference(a)));
  for (const token of strong.slice(0, 12)) {
    const tr = make('tr');
    tr.append(make('td', shown(token.text)), make('td', signed(difference(token))));
    for (const { p, top } of token.said[now()]) {
      const best = top.map(([text, p]) => `${shown(text)} ${p.toFixed(3)}`).join(', ');
      tr.append(make('td', p.toFixed(3) + (best && `: ${best}`)));
    }
    paper.append(tr);
  }
}

// The colours at the slider's step.
function paint() {
  const [tokens, section] = chosen();
  let name = now() > main.dataset.done ? `after step ${main.dataset.done}` : `step ${now()}`;
  if (now() == section.dataset.step) name += ', its own';
  main.querySelector('output').textContent = name;
  slider.setAttribute('aria-valuetext', name);

  for (const element of section.querySelectorAll('.t')) {
    const d = difference(tokens[element.dataset.t]);
    const level = Math.sign(d) * cuts.filter(cut => Math.abs(d) >= cut).length;
    element.className = `t p${level}`;
  }
  list(tokens);
}

// An attempt: first at its own step, with the panel where the eye should go first.
function show() {
  const [tokens, section] = chosen();
  attempts.forEach(other => other.classList.toggle('chosen', other == section));
  const own = document.querySelector('[name=step]:checked').parentElement;
  own.scrollIntoView({ block: 'nearest', inline: 'nearest' });
  slider.max = steps(tokens).length - 1;
  slider.value = steps(tokens).indexOf(+section.dataset.own);
  paint();
  const strengths = tokens.map(token => Math.abs(difference(token)));
  look(strengths.indexOf(Math.max(...strengths)));
}

main.addEventListener('change', event => {
  if (event.target.name == 'step') show();
});

slider.addEventListener('input', () => {
  const t = main.querySelector('.now').dataset.t;
  paint();
  look(t);
});

for (const happens of ['mouseover', 'focusin', 'click']) {
  main.addEventListener(happens, event => {
    const element = event.target.closest('.t');
    if (element) look(element.dataset.t);
  });
}

// Arrows walk from token to token; in the list of steps and the slider they do so already.
main.addEventListener('keydown', event => {
  const way = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const t = event.target.dataset.t;
  if (!way || t === undefined) return;
  const next = chosen()[1].querySelector(`[data-t="${+t + way}"][tabindex]`);
  if (next) {
    event.preventDefault();
    next.focus();
  }
});

show();
