// What moves on the heat map's page: the panel, the choices and the keyboard.
const data = JSON.parse(document.getElementById('data').textContent);  // tokens of each attempt
const main = document.querySelector('main');
const panel = document.querySelector('.panel');
const attempts = [...document.querySelectorAll('.attempt')];

// The number of the chosen attempt (step) or the chosen moment (view).
function chosen(name) {
  return document.querySelector(`input[name=${name}]:checked`).value;
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

// A probability as number and as bar.
function row(text, p, own) {
  const fill = make('i');
  fill.style.width = `${100 * p}%`;
  const bar = make('span', '', 'bar');
  bar.append(fill);

  const left = make('td');
  left.append(make('code', (own ? '▸ ' : '') + shown(text)));
  const right = make('td');
  right.append(bar, p < .0005 ? p.toExponential(1) : p.toFixed(3));

  const tr = make('tr', '', own ? 'own' : '');
  tr.append(left, right);
  return tr;
}

// A model's top five, and the token that was written where it is none of them.
function table(title, token, said) {
  const t = make('table');
  t.append(make('caption', title));
  for (const [text, p] of said.top) t.append(row(text, p, text === token.text));
  if (!said.top.some(([text]) => text === token.text)) {
    t.append(row(token.text, Math.exp(said.logp), true));
  }
  return t;
}

// The panel about token t, and a frame around it in the attempt.
function look(t) {
  const tokens = data[chosen('step')];
  const token = tokens[t];
  const said = token[chosen('view')];

  main.querySelectorAll('.now').forEach(e => e.classList.remove('now'));
  const section = attempts[chosen('step')];
  section.querySelectorAll(`[data-t="${t}"]`).forEach(e => e.classList.add('now'));

  const head = make('div');
  head.append(make('code', shown(token.text), 'token'), ` token ${+t + 1} of ${tokens.length}`);

  const rounded = (Math.round(100 * said.d) / 100 + 0).toFixed(2).replace('-', '−');
  const number = make('small', `log p_teacher − log p_student = ${rounded}`);

  const factor = Math.exp(Math.min(Math.abs(said.d), 99));
  const more = said.d > 0 ? 'more' : 'less';
  const times = factor < 1.05 ? 'as' : `${factor.toFixed(1)} times ${more}`;
  const words = make('div', `${times} likely to the teacher`);

  const student = table('Student, without the feedback', token, said.student);
  const teacher = table('Teacher, who read the feedback', token, said.teacher);
  panel.replaceChildren(head, number, words, student, teacher);
}

// Where the eye should go first.
function strongest() {
  const view = chosen('view');
  const strengths = data[chosen('step')].map(token => Math.abs(token[view].d));
  look(strengths.reduce((best, strength, t) => strength > strengths[best] ? t : best, 0));
}

document.addEventListener('change', () => {
  main.className = chosen('view');
  attempts.forEach((section, n) => section.classList.toggle('chosen', n == chosen('step')));
  strongest();
});

for (const happens of ['mouseover', 'focusin', 'click']) {
  main.addEventListener(happens, event => {
    const element = event.target.closest('.t');
    if (element) look(element.dataset.t);
  });
}

// Arrows walk from token to token; in the list of steps they do so already.
main.addEventListener('keydown', event => {
  const way = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const t = event.target.dataset.t;
  if (!way || t === undefined) return;
  const section = attempts[chosen('step')];
  const next = section.querySelector(`[data-t="${+t + way}"][tabindex]`);
  if (next) {
    event.preventDefault();
    next.focus();
  }
});

strongest();
